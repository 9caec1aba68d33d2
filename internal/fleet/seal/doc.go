// Package seal is who may say what in a fleet: keys, signatures over bytes, and the root that
// names the keys of each role.
//
// What is signed travels in a DSSE envelope (github.com/secure-systems-lab/dsse, protocol v1):
// the signature is over the type and the bytes, so that what was signed for one role is nothing
// for another. The bytes are read only after so many distinct keys of the role have signed them
// as the root demands. Roots follow The Update Framework (TUF specification, section 5.3): root
// N+1 counts if the keys that root N names for roots have signed it, and those that it names
// itself.
package seal
