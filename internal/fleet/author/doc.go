// Package author makes what a fleet's gateways take: keys, roots and bundles, in a directory that
// may be copied anywhere. It runs where the policy keys are, on no gateway.
package author
