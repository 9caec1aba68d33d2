package etcd

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// Watch calls changed whenever there may be something new, until ctx ends: at first, after each
// write of a head, and when it cannot say any more what is written. A member that has lost its leader
// would be silent, so one with a leader is required.
func (s *Store) Watch(ctx context.Context, changed func()) {
	for ctx.Err() == nil {
		s.watchOnce(ctx, changed)
		if ctx.Err() == nil {
			changed() // the look says what is wrong
		}
		pause(ctx, watchAgain)
	}
}

// watchAgain is how long after a watch that has ended the next one begins, and eventsEvery how long
// after one answer the next one is read: what is not read holds the server up.
const (
	watchAgain  = time.Second
	eventsEvery = 20 * time.Millisecond
)

func pause(ctx context.Context, d time.Duration) {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-ctx.Done():
	case <-wait.C:
	}
}

// watchOnce watches until the stream ends. It uses the stream itself, and not the client's Watcher: that
// one believes the server, which can have it panic (two ends of one watch, an event without a key) or
// fill the memory (parts without an end). Nothing that is sent is needed here but that something is.
func (s *Store) watchOnce(ctx context.Context, changed func()) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	stream, err := etcdserverpb.NewWatchClient(s.client.ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(maxAnswer))
	if err != nil {
		return
	}
	key := s.key("live/")
	err = stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte(key), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(key))},
	}})
	if err != nil {
		return
	}
	for {
		res, err := stream.Recv()
		if err != nil || res.GetCanceled() { // no leader, or compacted: what is there is looked at anew
			return
		}
		if res.GetCreated() || len(res.GetEvents()) > 0 {
			changed()
		}
		pause(ctx, eventsEvery)
	}
}
