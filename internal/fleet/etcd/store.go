package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/readfile"
)

// headKey is below the prefix, as the names of package bundle are.
const headKey = "live/head"

// partSize is that of a part of a file: etcd takes requests of at most 1.5 MiB by default.
const partSize = 512 << 10

// maxAnswer bounds an answer in bytes: a part, or an envelope, and what gRPC adds.
const maxAnswer = 4 << 20

// maxPrefix is in bytes.
const maxPrefix = 200

// Times of the connection: one that is dead is noticed within aliveEvery and aliveFor. askFor bounds
// one request.
const (
	aliveEvery = 10 * time.Second
	aliveFor   = 5 * time.Second
	askFor     = 10 * time.Second
)

// Options of a Store.
type Options struct {
	Place string // as Check wants it
	// TLS is what the next connection is made with. Required.
	TLS func() (*tls.Config, error)
	// Dial opens a TCP connection. Required.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Store is the part of an etcd below a prefix. Its methods may be called by anyone at any time.
type Store struct {
	client *clientv3.Client
	prefix string // ends with /
}

// Scheme begins the place of a store: etcd://HOST:PORT,HOST:PORT/PREFIX. It is no URL, which has one
// host.
const Scheme = "etcd://"

// Check says what is wrong with the place of a store.
func Check(place string) error {
	_, _, err := split(place)
	return err
}

var prefixPattern = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)

// split returns the endpoints and the prefix of a place.
func split(place string) (endpoints []string, prefix string, err error) {
	rest, ok := strings.CutPrefix(place, Scheme)
	hosts, prefix, found := strings.Cut(rest, "/")
	prefix = "/" + strings.TrimSuffix(prefix, "/")
	if !ok || !found || len(prefix) > maxPrefix || !prefixPattern.MatchString(prefix) || path.Clean(prefix) != prefix {
		return nil, "", errors.New("wants etcd://HOST:PORT,HOST:PORT/PREFIX, where the prefix of keys is such as /sslgate/acme")
	}
	for host := range strings.SplitSeq(hosts, ",") {
		name, port, err := net.SplitHostPort(host)
		if n, errPort := strconv.ParseUint(port, 10, 16); err != nil || errPort != nil || n == 0 || name == "" || strings.ContainsAny(name, "@/?# ") {
			return nil, "", fmt.Errorf("%q: wants HOST:PORT for each member of etcd", host)
		}
		endpoints = append(endpoints, "https://"+host)
	}
	return endpoints, prefix + "/", nil
}

// Open makes a Store. It connects when it is asked.
func Open(o Options) (*Store, error) {
	endpoints, prefix, err := split(o.Place)
	if err != nil {
		return nil, err
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, Logger: zap.NewNop(), // what goes wrong is said by who asks
		DialTimeout: askFor, DialKeepAliveTime: aliveEvery, DialKeepAliveTimeout: aliveFor, PermitWithoutStream: true,
		MaxUnaryRetries:    3, // the next look tries again
		MaxCallRecvMsgSize: maxAnswer,
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(security{o.TLS}), grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return o.Dial(ctx, "tcp", address)
		})},
	})
	if err != nil {
		return nil, err
	}
	return &Store{client: c, prefix: prefix}, nil
}

// Close ends the connections, and every Watch.
func (s *Store) Close() { _ = s.client.Close() } // nothing is lost: every write was answered

// ask bounds a request, and wants a member that has a leader: else it would wait until the time is
// over.
func ask(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(clientv3.WithRequireLeader(ctx), askFor)
}

func (s *Store) key(name string) string { return s.prefix + name }

// Head returns bundle.json and a tag of it, as Newer does.
func (s *Store) Head(ctx context.Context, last string) (text []byte, tag string, err error) {
	return s.Newer(ctx, bundle.HeadName, last, seal.MaxEnvelope)
}

// Newer returns a file that may change, of at most limit bytes, and a tag of it. The text is nil if it
// still has the tag last. It is what a quorum of etcd has: without a quorum it is an error.
func (s *Store) Newer(ctx context.Context, name, last string, limit int64) (text []byte, tag string, err error) {
	ctx, cancel := ask(ctx)
	defer cancel()
	key := s.key(name)
	cluster, revision := parseTag(last)
	res, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return nil, "", err
	}
	if res.Succeeded && revision != 0 && cluster == res.Header.GetClusterId() {
		return nil, last, nil
	}
	if res.Succeeded { // there is none, or it is another cluster with the same number
		text, tag, err = s.current(ctx, key)
	} else if kvs, errRange := ranged(res); errRange != nil {
		err = errRange
	} else {
		text, tag, err = first(key, kvs, res.Header.GetClusterId())
	}
	if err == nil && int64(len(text)) > limit {
		return nil, "", fmt.Errorf("%s is %w", key, readfile.ErrTooLarge)
	}
	return text, tag, err
}

// first is what a key has.
func first(key string, kvs []*mvccpb.KeyValue, cluster uint64) (text []byte, tag string, err error) {
	if len(kvs) == 0 {
		return nil, "", fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return kvs[0].GetValue(), formatTag(cluster, kvs[0].GetModRevision()), nil
}

// ranged is what the one get of a transaction has found. The server may be a thief's.
func ranged(res *clientv3.TxnResponse) ([]*mvccpb.KeyValue, error) {
	if len(res.Responses) != 1 {
		return nil, fmt.Errorf("etcd answers one question with %d answers", len(res.Responses))
	}
	return res.Responses[0].GetResponseRange().GetKvs(), nil
}

// Current returns a file that may change, and a tag of it.
func (s *Store) Current(ctx context.Context, name string) (text []byte, tag string, err error) {
	ctx, cancel := ask(ctx)
	defer cancel()
	return s.current(ctx, s.key(name))
}

func (s *Store) current(ctx context.Context, key string) (text []byte, tag string, err error) {
	res, err := s.client.Get(ctx, key)
	if err != nil {
		return nil, "", err
	}
	return first(key, res.Kvs, res.Header.GetClusterId())
}

// A tag is the cluster and the revision of a key: an etcd that was restored from a backup is another
// cluster, whose revisions may be the same.
func formatTag(cluster uint64, revision int64) string { return fmt.Sprintf("%d.%d", cluster, revision) }

func parseTag(tag string) (cluster uint64, revision int64) {
	c, r, _ := strings.Cut(tag, ".")
	cluster, errCluster := strconv.ParseUint(c, 10, 64)
	revision, errRevision := strconv.ParseInt(r, 10, 64)
	if errCluster != nil || errRevision != nil {
		return 0, 0
	}
	return cluster, revision
}

// Get returns a file of at most limit bytes: fs.ErrNotExist, readfile.ErrTooLarge, or etcd does not
// answer.
func (s *Store) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	if !inParts(name) {
		text, err := s.get(ctx, s.key(name))
		if err == nil && int64(len(text)) > limit {
			err = fmt.Errorf("%s is %w", s.key(name), readfile.ErrTooLarge)
		}
		return text, err
	}
	text := []byte{}
	for part := 0; part == 0 || int64(len(text)) < limit; part++ {
		more, err := s.get(ctx, s.key(partName(name, part)))
		if err != nil {
			return nil, err
		}
		if int64(len(text)+len(more)) > limit {
			return nil, fmt.Errorf("%s is %w", s.key(name), readfile.ErrTooLarge)
		}
		if text = append(text, more...); len(more) < partSize {
			break
		}
	}
	return text, nil
}

// get returns the value of a key.
func (s *Store) get(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := ask(ctx)
	defer cancel()
	res, err := s.client.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	if len(res.Kvs) == 0 {
		return nil, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return res.Kvs[0].GetValue(), nil
}

// inParts says whether a file is kept in parts.
func inParts(name string) bool { return name == bundle.BlobName(path.Base(name)) }

func partName(name string, part int) string { return fmt.Sprintf("%s/%04d", name, part) }

// errLost says that somebody else has written meanwhile.
var errLost = errors.New("somebody else has written it meanwhile: try again")

// Put writes a file that never changes, unless it is there. It is an error where another text is.
func (s *Store) Put(ctx context.Context, name string, text []byte) error {
	if !inParts(name) {
		return s.create(ctx, s.key(name), text)
	}
	for part := 0; part == 0 || part*partSize <= len(text); part++ {
		from := part * partSize
		if err := s.create(ctx, s.key(partName(name, part)), text[from:min(len(text), from+partSize)]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) create(ctx context.Context, key string, text []byte) error {
	ctx, cancel := ask(ctx)
	defer cancel()
	res, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, string(text))).Else(clientv3.OpGet(key)).Commit()
	if err != nil || res.Succeeded {
		return err
	}
	kvs, err := ranged(res)
	if err == nil && (len(kvs) == 0 || string(kvs[0].GetValue()) != string(text)) {
		err = fmt.Errorf("%s is there with another text", key)
	}
	return err
}

// PutHead writes bundle.json and tells all that watch, if bundle.json still has a tag ("": there is
// none). Roots and files are there before.
func (s *Store) PutHead(ctx context.Context, text []byte, last string) error {
	e, err := seal.ParseEnvelope(text)
	if err != nil {
		return err
	}
	m, err := bundle.Parse(e.Unverified())
	if err != nil {
		return err
	}
	_, revision := parseTag(last)
	ctx, cancel := ask(ctx)
	defer cancel()
	key := s.key(bundle.HeadName)
	res, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, string(text)), clientv3.OpPut(s.key(headKey), fmt.Sprintf("%d %s", m.Epoch, bundle.Sum(e.Unverified())))).Commit()
	if err == nil && !res.Succeeded {
		err = fmt.Errorf("%s: %w", key, errLost)
	}
	return err
}

// Update writes a file that may change, if it still has a tag ("": it is not there), and tells all
// that watch.
func (s *Store) Update(ctx context.Context, name string, text []byte, last string) error {
	ctx, cancel := ask(ctx)
	defer cancel()
	key := s.key(name)
	_, revision := parseTag(last)
	res, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, string(text)), clientv3.OpPut(s.key("live/"+name), "")).Commit()
	if err == nil && !res.Succeeded {
		err = fmt.Errorf("%s: %w", key, errLost)
	}
	return err
}
