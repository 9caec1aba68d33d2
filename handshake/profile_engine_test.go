package handshake_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
)

// twoEngines has a second engine beside the tests' own, with a group that this one has
// not.
func twoEngines() *handshake.Capabilities {
	c, native := *able(), *able()
	native.Engine, native.Native = "the second engine", nil
	native.Groups = []uint16{0x0202, 29} // MLKEM1024, X25519
	c.Groups = slices.DeleteFunc(slices.Clone(c.Groups), func(g uint16) bool { return g == 0x0202 })
	c.Native = &native
	return &c
}

func TestResolveEngine(t *testing.T) {
	all := []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
	for name, tt := range map[string]struct {
		spec handshake.ProfileSpec
		want handshake.EngineKind
	}{
		"none":                              {handshake.ProfileSpec{}, handshake.EngineStd},
		"std":                               {handshake.ProfileSpec{Engine: "std"}, handshake.EngineStd},
		"native":                            {handshake.ProfileSpec{Engine: "native"}, handshake.EngineNative},
		"a list that needs it":              {handshake.ProfileSpec{Inexpressible: "native", TLS13: all[1:2]}, handshake.EngineNative},
		"the base's list":                   {handshake.ProfileSpec{Base: "cnsa1", Inexpressible: "native"}, handshake.EngineNative},
		"no list":                           {handshake.ProfileSpec{Inexpressible: "native"}, handshake.EngineStd},
		"all three":                         {handshake.ProfileSpec{Inexpressible: "native", TLS13: all}, handshake.EngineStd},
		"TLS 1.2 alone":                     {handshake.ProfileSpec{Base: "fips", Inexpressible: "native", Versions: []string{"1.2"}}, handshake.EngineStd},
		"its own group":                     {handshake.ProfileSpec{Base: "modern", Engine: "native", Groups: []string{"MLKEM1024"}}, handshake.EngineNative},
		"held at TLS 1.2 where it is std's": {handshake.ProfileSpec{Base: "fips", Engine: "native", Inexpressible: "cap-1.2"}, handshake.EngineNative},
	} {
		p, err := tt.spec.Resolve("house", twoEngines())
		if err != nil || p.Engine != tt.want || p.Engine.String() != tt.want.String() {
			t.Errorf("%s: %v, %v", name, p.Engine, messages(err))
		}
		if p.Cap12 != (tt.spec.Inexpressible == "cap-1.2") {
			t.Errorf("%s: Cap12 %v", name, p.Cap12)
		}
	}
	for name, tt := range map[string]struct {
		spec handshake.ProfileSpec
		able *handshake.Capabilities
		want string
	}{
		"misspelt":        {handshake.ProfileSpec{Engine: "nativ"}, twoEngines(), `engine: unknown engine "nativ" (did you mean "native"?): std or native`},
		"both words":      {handshake.ProfileSpec{Engine: "std", Inexpressible: "native"}, twoEngines(), "inexpressible: native is another engine than engine: std: leave one of them out"},
		"there is none":   {handshake.ProfileSpec{Engine: "native"}, able(), "engine: there is no native engine beside Go's crypto/tls"},
		"nor for a list":  {handshake.ProfileSpec{Inexpressible: "native"}, able(), "inexpressible: there is no native engine beside Go's crypto/tls"},
		"its own group":   {handshake.ProfileSpec{Groups: []string{"MLKEM1024"}}, twoEngines(), "groups[0]: group MLKEM1024 is not implemented by Go's crypto/tls"},
		"the other's one": {handshake.ProfileSpec{Engine: "native", Groups: []string{"P-521"}}, twoEngines(), "groups[0]: group secp521r1 is not implemented by the second engine"},
	} {
		if p, err := tt.spec.Resolve("house", tt.able); strings.Join(messages(err), "; ") != tt.want || p.MaxVersion != 0 {
			t.Errorf("%s: %v", name, messages(err))
		}
	}
}
