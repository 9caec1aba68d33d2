// Package member is a gateway's part in a fleet: it looks at the source of bundles, takes what is
// signed, new and for its site, writes down what it has seen before it uses it, and goes on with
// the last good bundle whatever happens to the source.
package member
