package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/policy"
)

const (
	engineStd    = "std"
	engineNative = "native"
)

// profiles resolves the named profiles and those of the file.
func (b *builder) profiles(env *policy.Environment) {
	env.Profiles = map[string]handshake.Profile{}
	var open []string // profiles that name no engine
	for _, p := range handshake.NamedProfiles() {
		env.Profiles[p.Name] = p
		open = append(open, p.Name)
	}
	specs := b.file.Config.Profiles
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		// One at a time, so that a mistake in one leaves the others.
		spec := specs[name]
		resolved, err := handshake.ResolveProfiles(map[string]handshake.ProfileSpec{name: spec}, env.Engine.Capabilities())
		if err != nil {
			b.failed[keyPath("profiles", name)] = true
			b.located(fielderr.All(err), "profiles")
			continue
		}
		env.Profiles[name] = resolved[name]
		if spec.Engine == "" && spec.Inexpressible == "" {
			open = append(open, name)
		}
	}
	if b.file.Config.Engine == engineNative {
		b.openProfiles(env, open)
	}
}

// openProfiles gives the profiles that name no engine to the native one. What it cannot
// keep stays with crypto/tls, and is said where a rule uses it.
func (b *builder) openProfiles(env *policy.Environment, names []string) {
	if env.Engine.Capabilities().Native == nil {
		b.add("engine", "there is no native engine")
		return
	}
	used := map[string]bool{}
	for _, r := range b.file.Config.Policy.Rules {
		used[cmp.Or(r.Profile, policy.DefaultProfile)] = true
		used[cmp.Or(r.Destination.Profile, r.Profile, policy.DefaultProfile)] = true
	}
	for _, name := range names {
		profile := env.Profiles[name]
		profile.Engine = handshake.EngineNative
		limits := env.Engine.Cannot(&handshake.Params{Profile: profile})
		if len(limits) == 0 {
			env.Profiles[name] = profile
		} else if used[name] {
			b.warn("engine", fmt.Sprintf("profile %q stays with crypto/tls: the native engine cannot keep %s: %s", name, limits[0].What, limits[0].Why))
		}
	}
}
