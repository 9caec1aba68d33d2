// Package bundle is a configuration with every file that it names, as a fleet hands it to its
// gateways: a manifest with an epoch, signed by the policy keys, and the files by their SHA-256.
// Whatever carries it need not be trusted.
//
// In a directory, or below a URL, it is
//
//	root/1.json, root/2.json, ...  the roots, see package seal
//	bundle.json                    the manifest in its envelope
//	blobs/SHA256                   the files
//
// Private keys are in no bundle: a configuration names them as files of each gateway.
package bundle
