// Package etcd keeps the bundles of a fleet in etcd (https://etcd.io, API version 3). Nothing of it is
// trusted: what it has is verified as that of any other source.
//
// Below a prefix, such as /sslgate/acme, are
//
//	root/1.json, root/2.json, ...  the roots
//	bundle.json                    the manifest in its envelope
//	blobs/SHA256/0000, .../0001    the files, in parts of 512 KiB
//	live/head                      "EPOCH SHA256" of the manifest: what gateways watch
//
// Bodies are got once, by whoever needs them; only what is below live/ is sent to all that watch.
// bundle.json and live/head are written in one transaction, which compares what they were.
package etcd
