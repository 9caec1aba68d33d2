package work

import "crypto/tls"

// The weights, in microseconds: the least ns/op, divided by 1000, printed by
//
//	go test -run - -bench Weights -benchtime 10ms -count 12 ./internal/work
//
// with Go 1.26 on one core of an AMD EPYC of the Turin generation (amd64, with the
// assembly of the standard library). fixed is half of the row "handshake, both sides",
// less the parts of it that have rows of their own. For a new version of Go, or the
// proportions of another machine, run it again and write the figures here. TestOrder
// compares the table with the order that must hold everywhere.
const (
	fixed         Units = 300 // of every handshake, besides what is counted separately: records, keys, hashes, memory, its record
	judgement     Units = 40  // a flow refused at its hello: BenchmarkOnHello of policy, and the record
	perKiB        Units = 10  // parsing a certificate full of names, which costs most
	perRecord     Units = 1   // a record of one byte: BenchmarkByteByByte of handshake, divided by its records
	dataRecord    Units = 5   // a record of one byte of data: BenchmarkData of handshake/stdtls
	keyUpdate     Units = 18  // a KeyUpdate with its answer, more than dataRecord
	verifyRSA2048 Units = 29
	signRSA2048   Units = 838
	verifyEd25519 Units = 54
	signEd25519   Units = 23

	// Of ML-DSA measured with Go 1.27.
	verifyMLDSA44, verifyMLDSA65, verifyMLDSA87 Units = 118, 177, 292
	signMLDSA44, signMLDSA65, signMLDSA87       Units = 327, 500, 616

	verifyP256, verifyP384, verifyP521       Units = 59, 531, 2031
	signP256, signP384, signP521             Units = 27, 196, 692
	exchangeX25519, exchangeMLKEM            Units = 86, 71
	exchangeP256, exchangeP384, exchangeP521 Units = 65, 599, 1928
)

// usualRecord is the bytes of data from which on a record counts as a usual one. A record costs
// little more than its bytes from there.
const usualRecord = 256

// verifyEC and signEC are the weights for curves of at most 256, at most 384 and more
// bits (classes 0, 1, 2).
func verifyEC(class int) Units { return [...]Units{verifyP256, verifyP384, verifyP521}[class] }
func signEC(class int) Units   { return [...]Units{signP256, signP384, signP521}[class] }

// exchange is the cost of a key exchange in a group; an unknown group costs as much as
// the most expensive one. ML-KEM-1024 counts as twice ML-KEM-768.
func exchange(group tls.CurveID) Units {
	switch group {
	case tls.X25519:
		return exchangeX25519
	case tls.X25519MLKEM768:
		return exchangeX25519 + exchangeMLKEM
	case tls.CurveP256:
		return exchangeP256
	case tls.SecP256r1MLKEM768:
		return exchangeP256 + exchangeMLKEM
	case tls.CurveP384:
		return exchangeP384
	case tls.SecP384r1MLKEM1024:
		return exchangeP384 + 2*exchangeMLKEM
	case tls.MLKEM1024:
		return 2 * exchangeMLKEM
	}
	return exchangeP521
}
