// Package revocation knows which certificates are revoked: from the revocation lists
// (CRL, RFC 5280, section 5) and the OCSP answers (RFC 6960) of each authority, and from
// the OCSP answers that clients staple to their certificates.
//
// The steps:
//
//  1. A source (file or configured URL) is read, within bounds of size and time.
//  2. ParseLists reads it, checks its signature by a CA of the authority, and keeps only
//     the serial number of each entry.
//  3. A list older than the known one is refused, and the last good copy stays.
//  4. A new snapshot of everything replaces the old one in one atomic step, so that no
//     flow waits for a list to load. The epoch grows, and the subscribers of OnChange are
//     called.
//  5. Check compares each certificate of a verified chain with the snapshot and with
//     revocations from earlier OCSP answers. Then it asks the configured OCSP responder,
//     and last it reads the staple. A revocation anywhere is final.
//
// Nothing is ever fetched from an address in a certificate (AIA, CRL distribution
// points). Otherwise anybody who shows a certificate could make the gateway connect to an
// address of his choice.
package revocation
