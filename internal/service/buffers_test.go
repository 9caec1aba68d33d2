package service

import "testing"

// The buffers of a flow follow the host's, within bounds.
func TestBufferMax(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int64
	}{
		{"4096\t131072\t33554432\n", 33554432},
		{"4096 16384 4194304", 4194304},
		{"", 0},
		{"4096 16384", 0},
		{"4096 16384 -1", 0},
		{"4096 16384 many", 0},
		{"4096 16384 9223372036854775807", 1 << 40}, // twice it is still a number
	} {
		if got := lastNumber(tt.text); got != tt.want {
			t.Errorf("%q: %d, want %d", tt.text, got, tt.want)
		}
	}
	for _, ceiling := range []int64{0, 64 << 20, 256 << 20, 1 << 30, 1 << 40} {
		receive, send := bufferMax(ceiling)
		for _, n := range []int{receive, send} {
			if n < leastMax || n > mostMax || ceiling >= flowShare*leastMax && int64(n) > ceiling/flowShare {
				t.Errorf("limits.memory of %d bytes: buffers of %d and %d", ceiling, receive, send)
			}
		}
	}
	receive, send := bufferMax(0)
	if r, s := hostBuffer("tcp_rmem"), hostBuffer("tcp_wmem"); int64(receive) < min(2*r, mostMax) || int64(send) < min(2*s, mostMax) {
		t.Errorf("the host allows %d and %d, a flow gets %d and %d", r, s, receive, send)
	}
	if hostBuffer("no_such_key") != 0 {
		t.Error("a key that is not there has a size")
	}
}
