package service

import (
	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
)

// Policy returns the policy in force and what it has decided. It lists the limit rules with the
// most flows; 0 means all.
func (s *Service) Policy(limit int) admin.Policy {
	rt := s.runtime()
	spec := rt.Config.Policy
	or := func(v, def string) string {
		if v == "" {
			return def
		}
		return v
	}
	p := admin.Policy{Digest: rt.Set.ID(), Mode: or(spec.Mode, "enforce"), Rules: []admin.Rule{}, Default: s.hub.Hits(""), Would: s.hub.Woulds()}
	hits := make([]admin.Hits, len(spec.Rules))
	for i := range spec.Rules {
		hits[i] = s.hub.Hits(spec.Rules[i].Name)
	}
	for _, i := range admin.MostHit(hits, limit) {
		r := &spec.Rules[i]
		p.Rules = append(p.Rules, admin.Rule{
			Name: r.Name, Action: or(r.Action, "terminate"), Mode: or(r.Mode, p.Mode), Spec: config.View(*r), Hits: hits[i],
		})
	}
	p.More = len(spec.Rules) - len(p.Rules)
	return p
}

// ruleNames returns the names of a configuration's rules.
func ruleNames(c *config.Config) []string {
	names := make([]string, 0, len(c.Policy.Rules))
	for i := range c.Policy.Rules {
		names = append(names, c.Policy.Rules[i].Name)
	}
	return names
}
