package etcd

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

// thief answers as he likes.
type thief struct {
	etcdserverpb.UnimplementedKVServer
	etcdserverpb.UnimplementedWatchServer
	get   func(*etcdserverpb.RangeRequest) *etcdserverpb.RangeResponse
	txn   func(*etcdserverpb.TxnRequest) *etcdserverpb.TxnResponse
	watch func(etcdserverpb.Watch_WatchServer) error
	sent  atomic.Int64 // answers of watch
}

func (h *thief) Range(_ context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	return h.get(r), nil
}

func (h *thief) Txn(_ context.Context, r *etcdserverpb.TxnRequest) (*etcdserverpb.TxnResponse, error) {
	return h.txn(r), nil
}

func (h *thief) Watch(s etcdserverpb.Watch_WatchServer) error { return h.watch(s) }

// sends answers a watch.
func (h *thief) sends(s etcdserverpb.Watch_WatchServer, all ...*etcdserverpb.WatchResponse) error {
	for _, res := range all {
		if err := s.Send(res); err != nil {
			return err
		}
		h.sent.Add(1)
	}
	return nil
}

// serves opens a store that has such a server.
func (h *thief) serves(t *testing.T) *Store {
	t.Helper()
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	own := testpki.Must(ca.Issue(testpki.Leaf{IPs: []string{"127.0.0.1"}})).TLS()
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13})), grpc.MaxSendMsgSize(64<<20))
	etcdserverpb.RegisterKVServer(srv, h)
	etcdserverpb.RegisterWatchServer(srv, h)
	l := testpki.Must(net.Listen("tcp", "127.0.0.1:0"))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(l) // until Stop
	}()
	s := testpki.Must(Open(Options{
		Place: "etcd://" + l.Addr().String() + "/acme", Dial: (&net.Dialer{}).DialContext,
		TLS: func() (*tls.Config, error) {
			return &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS13}, nil
		},
	}))
	t.Cleanup(func() {
		s.Close()
		srv.Stop()
		<-ended
	})
	return s
}

func kv(key string, size int) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: []byte(key), Value: []byte(strings.Repeat("x", size)), ModRevision: -1}
}

// An etcd may be a thief's, and answer what no etcd does. The gateway gets an error or a text that is no
// longer than it allows; it goes on, and its memory has a bound.
func TestHostileAnswers(t *testing.T) {
	const limit = 1 << 20
	ranged := func(kvs ...*mvccpb.KeyValue) *etcdserverpb.RangeResponse {
		return &etcdserverpb.RangeResponse{Kvs: kvs, Count: 1 << 40}
	}
	inTxn := func(of *etcdserverpb.RangeResponse) *etcdserverpb.TxnResponse {
		return &etcdserverpb.TxnResponse{Responses: []*etcdserverpb.ResponseOp{{Response: &etcdserverpb.ResponseOp_ResponseRange{ResponseRange: of}}}}
	}
	for what, h := range map[string]struct {
		get *etcdserverpb.RangeResponse
		txn *etcdserverpb.TxnResponse
	}{
		"nothing":         {&etcdserverpb.RangeResponse{}, &etcdserverpb.TxnResponse{}},
		"it succeeded":    {ranged(), &etcdserverpb.TxnResponse{Succeeded: true}},
		"an empty key":    {ranged(&mvccpb.KeyValue{}), inTxn(ranged(&mvccpb.KeyValue{}))},
		"other keys":      {ranged(kv("/other", 10), kv("/another", 10)), inTxn(ranged(kv("/other", 10)))},
		"a long value":    {ranged(kv("/acme/bundle.json", limit+1)), inTxn(ranged(kv("/acme/bundle.json", limit+1)))},
		"a huge value":    {ranged(kv("/acme/bundle.json", 16<<20)), inTxn(ranged(kv("/acme/bundle.json", 16<<20)))},
		"an empty answer": {nil, &etcdserverpb.TxnResponse{Responses: []*etcdserverpb.ResponseOp{{}}}},
		"a put": {nil, &etcdserverpb.TxnResponse{Responses: []*etcdserverpb.ResponseOp{{Response: &etcdserverpb.ResponseOp_ResponsePut{}},
			{Response: &etcdserverpb.ResponseOp_ResponseTxn{ResponseTxn: &etcdserverpb.TxnResponse{}}}}}},
	} {
		if h.get == nil {
			h.get = ranged()
		}
		server := &thief{
			get: func(*etcdserverpb.RangeRequest) *etcdserverpb.RangeResponse { return h.get },
			txn: func(*etcdserverpb.TxnRequest) *etcdserverpb.TxnResponse { return h.txn },
		}
		s := server.serves(t)
		bounded := func(call string, text []byte, err error) {
			t.Helper()
			if err == nil && len(text) > limit {
				t.Errorf("%s: %s: %d bytes", what, call, len(text))
			}
		}
		ctx := t.Context()
		for _, last := range []string{"", "0.-1", "7.7", "nonsense"} {
			text, _, err := s.Newer(ctx, bundle.HeadName, last, limit)
			bounded("Newer", text, err)
		}
		text, err := s.Get(ctx, bundle.RevokedName, limit)
		bounded("Get", text, err)
		text, err = s.Get(ctx, bundle.BlobName(bundle.Sum(nil)), limit)
		bounded("Get of parts", text, err)
		if err := s.Put(ctx, "x", []byte("y")); err == nil && !h.txn.Succeeded {
			t.Errorf("%s: Put says that it has written", what)
		}
		if err := s.Update(ctx, "x", []byte("y"), "1.1"); err == nil && !h.txn.Succeeded {
			t.Errorf("%s: Update says that it has written", what)
		}
	}
}

// A file that is in parts without an end is read to its bound.
func TestPartsWithoutEnd(t *testing.T) {
	asked := atomic.Int64{}
	server := &thief{get: func(*etcdserverpb.RangeRequest) *etcdserverpb.RangeResponse {
		asked.Add(1)
		return &etcdserverpb.RangeResponse{Kvs: []*mvccpb.KeyValue{kv("/", partSize)}}
	}}
	s := server.serves(t)
	if text, err := s.Get(t.Context(), bundle.BlobName(bundle.Sum(nil)), 5*partSize/2); err == nil || len(text) > 0 || asked.Load() != 3 {
		t.Errorf("%d bytes in %d parts, %v", len(text), asked.Load(), err)
	}
}

// A watch may send what no etcd does, without an end: it is heard, no faster than it is read, and kept
// nowhere.
func TestHostileWatch(t *testing.T) {
	created := &etcdserverpb.WatchResponse{Created: true}
	event := func(size int) *mvccpb.Event { return &mvccpb.Event{Kv: kv("/acme/live/head", size)} }
	for what, c := range map[string]struct {
		first   []*etcdserverpb.WatchResponse
		endless *etcdserverpb.WatchResponse
	}{
		"events without keys":      {[]*etcdserverpb.WatchResponse{created}, &etcdserverpb.WatchResponse{Events: []*mvccpb.Event{{}}}},
		"events before it is made": {nil, &etcdserverpb.WatchResponse{Events: []*mvccpb.Event{event(10)}}},
		"other watches":            {[]*etcdserverpb.WatchResponse{created}, &etcdserverpb.WatchResponse{WatchId: 1 << 60, Events: []*mvccpb.Event{event(10)}}},
		"made again and again":     {nil, created},
		"fragments":                {[]*etcdserverpb.WatchResponse{created}, &etcdserverpb.WatchResponse{Fragment: true, Events: []*mvccpb.Event{event(3 << 20)}}},
		"an end without a reason":  {[]*etcdserverpb.WatchResponse{created, {Canceled: true}, {Canceled: true}}, nil},
		"compacted at nothing":     {[]*etcdserverpb.WatchResponse{created, {Canceled: true, CompactRevision: 0, CancelReason: "etcdserver: mvcc: required revision has been compacted"}}, nil},
		"ended before it is made":  {[]*etcdserverpb.WatchResponse{{Canceled: true, Created: true, WatchId: -1}}, nil},
		"too large for an answer":  {[]*etcdserverpb.WatchResponse{created, {Events: []*mvccpb.Event{event(16 << 20)}}}, nil},
	} {
		server := &thief{}
		server.watch = func(w etcdserverpb.Watch_WatchServer) error {
			if _, err := w.Recv(); err != nil {
				return err
			}
			if err := server.sends(w, c.first...); err != nil {
				return err
			}
			for c.endless != nil {
				if err := server.sends(w, c.endless); err != nil {
					return err
				}
			}
			return nil
		}
		s := server.serves(t)
		ctx, cancel := context.WithCancel(t.Context())
		heard := atomic.Int64{}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.Watch(ctx, func() { heard.Add(1) })
		}()
		testenv.Eventually(t, what+": it is heard, and heard again", func() bool { return heard.Load() >= 3 })
		if ahead := server.sent.Load() - heard.Load(); c.endless != nil && c.endless.Fragment && ahead > 64 {
			t.Errorf("%s: the server is %d answers of 3 MiB ahead", what, ahead)
		}
		cancel()
		<-ended
	}
	var m runtime.MemStats
	runtime.GC()
	if runtime.ReadMemStats(&m); m.HeapAlloc > 256<<20 {
		t.Errorf("%d MiB are kept", m.HeapAlloc>>20)
	}
}
