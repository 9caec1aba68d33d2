package lab

import "strings"

const configHead = "version: 1\n"

// WithEngine is the text of an sslgate.yaml whose handshakes are made by engine, "std" or
// "native", and those of each profile that names none; "" leaves it as it is.
func WithEngine(text, engine string) string {
	if engine == "" {
		return text
	}
	return strings.Replace(text, configHead, configHead+"engine: "+engine+"\n", 1)
}

// WithSender is the text of an sslgate.yaml that names no tun, with tun.sender, "netstack" or
// "paced"; "" leaves it as it is.
func WithSender(text, sender string) string {
	if sender == "" {
		return text
	}
	return strings.Replace(text, configHead, configHead+"tun: {sender: "+sender+"}\n", 1)
}
