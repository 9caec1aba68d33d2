// Package revocation knows which certificates were taken back: by the
// revocation lists (CRL, RFC 5280, section 5) and the OCSP answers (RFC 6960)
// of each authority, and by what a client staples to its certificate.
//
// The way of the data:
//
//  1. a source (file or configured URL) is read, within bounds of size and time;
//  2. ParseLists reads it, checks its signature by a CA of the authority, and
//     keeps of each entry only the serial number;
//  3. what is older than what is known is refused, and the last good copy stays;
//  4. a new snapshot of everything replaces the old one in one atomic step, so
//     that no flow waits for a list to load; the epoch goes up, and whoever
//     subscribed by OnChange is told;
//  5. Check holds each certificate of a verified chain against the snapshot and
//     what OCSP answers have taken back before, then asks the configured OCSP
//     responder, then looks at the staple. A revocation anywhere is final.
//
// Nothing is ever fetched from an address that a certificate names (AIA, CRL
// distribution points): whoever shows a certificate could make the gateway
// connect to where he likes.
package revocation
