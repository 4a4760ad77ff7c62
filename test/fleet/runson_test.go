//go:build linux

package fleet

import (
	"testing"
	"time"
)

// A server that was removed and runs on, because nobody turned it off, stays out:
// its k3s ends with its membership, systemd starts it again, and it must neither
// join etcd anew nor register its core Node.
func TestARemovedServerThatRunsOnStaysOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{servers: 2})
	w.seed()
	w.declare(w.names("")[1:]...)
	w.awaitMembers(8*time.Minute, w.names("")...)
	w.undeclare("server3")
	w.awaitGone("server3", 4*time.Minute)
	w.awaitMembers(2*time.Minute, first, "server2")
	w.stays(time.Minute, first, "server2")
	if !w.machines["server3"].On() {
		t.Error("the removed server was turned off: this proves nothing")
	}
	w.settle()
}
