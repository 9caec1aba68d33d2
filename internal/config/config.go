// Package config reads sslgate.yaml: strictly, with every mistake at once,
// each with file, line, column, the line itself and a suggestion.
package config

import (
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/policy"
)

// Config is sslgate.yaml as it is written. docs/config.md is generated from
// the comments of the fields.
type Config struct {
	// Version of the file's form: 1.
	Version int `yaml:"version"`
	// TUN is the device the captured packets are read from.
	TUN TUN `yaml:"tun"`
	// Capture says what is steered into the TUN.
	Capture Capture `yaml:"capture"`
	// Fail is what happens to captured traffic after an orderly stop: "closed" (the default; it goes nowhere) or "open" (everything is removed and it is routed on). A crash is always closed.
	Fail string `yaml:"fail"`
	// Dial says how destinations are reached.
	Dial Dial `yaml:"dial"`
	// Authorities are the certificate authorities that rules refer to by name.
	Authorities map[string]Authority `yaml:"authorities"`
	// Identities are the certificates sslgate shows, that rules refer to by name.
	Identities map[string]Identity `yaml:"identities"`
	// Profiles are cryptographic profiles of your own, beside the named ones.
	Profiles map[string]handshake.ProfileSpec `yaml:"profiles"`
	// Policy decides every flow.
	Policy policy.Spec `yaml:"policy"`
	// Limits bound what clients can make the gateway hold.
	Limits Limits `yaml:"limits"`
	// Audit is the record of every flow.
	Audit Audit `yaml:"audit"`
	// Log is what the gateway says of itself, on standard error.
	Log Log `yaml:"log"`
	// Admin is the gateway's own door for status and reload.
	Admin Admin `yaml:"admin"`
	// Reload says what a changed configuration does to a running gateway.
	Reload Reload `yaml:"reload"`
}

// TUN is the device the captured packets are read from.
type TUN struct {
	// Name of the device, at most 15 bytes. Default sslgate0.
	Name string `yaml:"name"`
	// MTU in bytes, 1280 to 65535. Default 1500.
	MTU int `yaml:"mtu"`
	// Attach uses a device that somebody else made and routes; sslgate then touches neither. Default false.
	Attach bool `yaml:"attach"`
	// Addresses of the device in CIDR form; destinations in them are refused. Default none: the device needs no address.
	Addresses []string `yaml:"addresses"`
	// Offload is "auto" (the default: segmentation and checksum offload where the kernel has it) or "off".
	Offload string `yaml:"offload"`
}

// Capture says what is steered into the TUN.
type Capture struct {
	// Interfaces that captured traffic comes in by. Required unless tun.attach.
	Interfaces []string `yaml:"interfaces"`
	// Exempt are interfaces whose forwarded traffic to the captured ports may pass uninspected. Default none: it is captured from capture.interfaces and dropped from all others, so that an interface that is renamed or made anew is no hole.
	Exempt []string `yaml:"exempt"`
	// Ports is the list of TCP destination ports captured, or "all". Required.
	Ports Ports `yaml:"ports"`
	// QUIC is what happens to UDP on the captured ports: "reject" (the default; clients fall back to TCP; with ports "all" it is port 443 alone) or "ignore" (it is routed past the gateway).
	QUIC string `yaml:"quic"`
	// Mark is the firewall mark put on captured packets, not 0. Default 0x5519.
	Mark uint32 `yaml:"mark"`
	// Table is the number of the routing table that leads to the TUN: 1 to 2147483647 without 253 to 255, which are the system's. Default 5519.
	Table int `yaml:"table"`
	// Preference of the `ip rule` that looks the table up, 1 to 32764; the one after it is used too. Default 5519.
	Preference int `yaml:"preference"`
}

// Dial says how destinations are reached.
type Dial struct {
	// Timeout of connecting, as a duration. Default 5s.
	Timeout Duration `yaml:"timeout"`
}

// Authority is one certificate authority, or several that are trusted alike.
type Authority struct {
	// Roots is the PEM file of the trust anchors. Required.
	Roots string `yaml:"roots"`
	// Permits bounds the names this authority may speak for. Default: any name.
	Permits *policy.PermitsSpec `yaml:"permits"`
}

// Identity is a certificate with its key.
type Identity struct {
	// Certificate is the PEM file of the leaf and its intermediates. Required.
	Certificate string `yaml:"certificate"`
	// Key is the PEM file of the private key, readable by its owner (and group) only. Required.
	Key string `yaml:"key"`
}

// Limits bound what clients can make the gateway hold.
type Limits struct {
	// Flows held at the same time. Default 20000, each costs about 100 KiB at most when idle.
	Flows int `yaml:"flows"`
	// FlowsPerClient held at the same time by one IPv4 address or one IPv6 /64. Default 512, or flows where that is less.
	FlowsPerClient int `yaml:"flows_per_client"`
	// Hello is the largest ClientHello taken, in bytes, 2KiB to 64KiB. Default 64KiB.
	Hello Size `yaml:"hello"`
	// Handshake is the time a client has for the whole handshake, hello included. Default 10s.
	Handshake Duration `yaml:"handshake"`
	// Idle is the time after which a flow without any data ends. Default 10m.
	Idle Duration `yaml:"idle"`
	// Drain is the time live flows have to end after SIGTERM. Default 30s.
	Drain Duration `yaml:"drain"`
}

// Audit is the record of every flow.
type Audit struct {
	// File the records are appended to, one JSON object a line; "-" is standard output, which is the default.
	File string `yaml:"file"`
}

// Log is what the gateway says of itself.
type Log struct {
	// Level is debug, info (the default), warn or error.
	Level string `yaml:"level"`
	// Format is "console" (the default) or "json".
	Format string `yaml:"format"`
}

// Admin is the gateway's own door for status and reload.
type Admin struct {
	// Socket is the path of a unix socket, which gets mode 0600, or "off". Default /run/sslgate/admin.sock; where that cannot be had the gateway runs without.
	Socket string `yaml:"socket"`
}

// Reload says what a changed configuration does to a running gateway. SIGHUP and `sslgate reload` read it anew; all of it is put in place, or nothing.
type Reload struct {
	// Watch also reloads when the configuration or a file it names has changed; looked at every 5 seconds. Default false.
	Watch bool `yaml:"watch"`
	// Live is what becomes of live flows: "keep" (the default; they keep the policy they began with) or "reevaluate" (they are decided anew, and end where they are no longer allowed).
	Live string `yaml:"live"`
}

// DefaultSocket is admin.socket where it is not set; AdminOff means none.
const (
	DefaultSocket = "/run/sslgate/admin.sock"
	AdminOff      = "off"
)

// Ports is a list of TCP ports, or all of them.
type Ports struct {
	All  bool
	List []uint16 // sorted, without repeats; empty if All
}

// Duration is a time.Duration written as "10s".
type Duration time.Duration

// Size is a number of bytes written as "64KiB", "1MiB" or plain.
type Size int64
