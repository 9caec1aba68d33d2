package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/pemfile"
	"github.com/sslgate/sslgate/internal/signer"
)

// maxPEM is the size of a certificate or key file in bytes; a bundle of all
// public roots has about 250 KiB.
const maxPEM = 4 << 20

// readPEM reads a file, with a hint where it is missing. Its caller ends the use of
// the text, as that of read.
func (in *loading) readPEM(path string) (fileset.File, error) {
	return in.readNear(path, maxPEM, pemCost)
}

// readNear is read with a hint where the file is missing.
func (in *loading) readNear(path string, limit, each int64) (fileset.File, error) {
	f, err := in.read(path, limit, each)
	if errors.Is(err, fs.ErrNotExist) {
		return f, fmt.Errorf("%w%s", err, nearFile(in.files.Source(), path))
	}
	return f, err
}

// nearFile suggests another file of the same directory.
func nearFile(src fileset.Source, path string) string {
	dir, base := filepath.Split(path)
	return fielderr.Suggest(base, src.Names(filepath.Clean(dir), 1000))
}

// named puts names into the commands that an error suggests.
func (b *builder) named(err error, file string) error {
	return pemfile.NamedBeside(err, file, b.file.in.files.Source().Exists)
}

// maxPassphrase is the size of a passphrase in bytes.
const maxPassphrase = 4096

// passphrase reads a secret of one line, nil where none is named. The caller overwrites
// it. False means that it cannot be read, and why was added.
func (b *builder) passphrase(path, name string) ([]byte, bool) {
	if name == "" {
		return nil, true
	}
	file := b.file.abs(name)
	if b.inBundle(path, file) {
		return nil, false
	}
	f, err := b.file.in.readNear(file, maxPassphrase, 1)
	if err != nil {
		b.add(path, err.Error())
		return nil, false
	}
	defer b.file.in.files.DoneSecret(file)
	secret := bytes.Clone(bytes.TrimRight(f.Text, "\r\n")) // the text is that of all users
	if len(secret) == 0 {
		b.add(path, file+" is empty: it has the passphrase of the key, in one line")
		return nil, false
	}
	b.secret(path, file, f.Mode.Perm())
	return secret, true
}

// signerPlace and a socket say that another process has a key (package signer).
const signerPlace = "signer:"

func signerSocket(key string) (socket string, ok bool) { return strings.CutPrefix(key, signerPlace) }

// maxSigning bounds a signature where limits.handshake is long. Half of limits.handshake is
// the bound else: so it is known before the deadline why a handshake fails.
const maxSigning = 3 * time.Second

// asked is a signer with what it says when it is asked for its keys, once a load and once a
// renewal.
type asked struct {
	*signer.Client
	done bool // it was asked
	keys []signer.KeyInfo
	err  error
}

// unasked are the same signers, to be asked anew: they may have other keys by now. The
// connections with them are kept.
func unasked(all map[string]*asked) map[string]*asked {
	out := make(map[string]*asked, len(all))
	for socket, a := range all {
		out[socket] = &asked{Client: a.Client}
	}
	return out
}

// Has says which schemes the signer signs with, nil for all; an error where it does not have
// the key.
func (a *asked) Has(key *signer.Remote) ([]tls.SignatureScheme, error) { return key.Among(a.keys) }

// signer is the one behind a socket, asked once.
func (b *builder) signer(socket string) *asked {
	a := b.signers[socket]
	if a == nil {
		a = &asked{Client: signer.New(socket, min(maxSigning, b.file.Config.Limits.Handshake.Std()/2))}
		if b.signers == nil {
			b.signers = map[string]*asked{}
		}
		b.signers[socket] = a
	}
	if !a.done {
		a.keys, a.err = a.Keys(b.file.in.context())
		a.done = true
	}
	return a
}

// remotePair is pair for a key that another process has. One that does not answer at a load
// is a warning: handshakes fail until it does, and nothing else is hindered. At a renewal it
// is an error: the certificate in use stays until the signer has said that it has the key of
// the new one. A certificate that is in use already needs no question.
func (b *builder) remotePair(path, identity string, p KeyPair, socket string, chain []*x509.Certificate) (*tls.Certificate, *handshake.Staple) {
	path += ".key"
	if !b.checkRemote(path, p, socket) || chain == nil {
		return nil, nil
	}
	stapled := strings.TrimSuffix(path, ".key") + ".ocsp"
	for i := range b.inUse {
		if _, remote := b.inUse[i].PrivateKey.(*signer.Remote); remote && sameChain(b.inUse[i], *certificateOf(chain, nil)) {
			return &b.inUse[i], b.staple(stapled, identity, p.OCSP, chain)
		}
	}
	a := b.signer(fileset.Place(filepath.Dir(b.file.Name), socket))
	key, err := a.Remote(chain[0].PublicKey)
	if err != nil {
		b.add(path, err.Error())
		return nil, nil
	}
	cert := certificateOf(chain, key)
	if a.err != nil && b.renews {
		b.add(path, a.err.Error()+": the new certificate waits until it answers")
		return nil, nil
	} else if a.err != nil {
		b.warn(path, a.err.Error()+": handshakes fail until it answers")
	} else if cert.SupportedSignatureAlgorithms, err = a.Has(key); err != nil {
		b.add(path, err.Error())
		return nil, nil
	}
	return cert, b.staple(stapled, identity, p.OCSP, chain)
}

// checkRemote says whether there is a socket to ask.
func (b *builder) checkRemote(path string, p KeyPair, socket string) bool {
	switch at := fileset.Place(filepath.Dir(b.file.Name), socket); {
	case socket == "":
		b.add(path, `wants a socket: "signer:/run/sslgate-signer/signer.sock"`)
	case strings.HasPrefix(at, fileset.BundleDir+"/"):
		b.add(path, at+" is in no bundle: a socket is each gateway's own, name it by an absolute path")
		return false
	}
	if p.Passphrase != "" {
		b.add(strings.TrimSuffix(path, ".key")+".passphrase", "has no effect: the signer has the key")
	}
	return socket != ""
}
