package policy

// onRevoked is what happens to a live flow whose certificate is revoked or
// expires. The zero value ends it.
type onRevoked uint8

const (
	closeRevoked onRevoked = iota
	keepRevoked
)

// String is the word of the configuration.
func (o onRevoked) String() string {
	if o == keepRevoked {
		return "keep"
	}
	return "close"
}

// EndsWhenRevoked says whether a live flow of this plan must end once its
// client's certificate is revoked or has expired.
func (p *Plan) EndsWhenRevoked() bool {
	return p == nil || p.rule == nil || p.rule.onRevoked != keepRevoked
}
