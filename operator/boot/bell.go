package boot

import "sync"

// bell tells any number of goroutines that something has changed. The zero value is
// ready. One that takes the channel before it looks misses no ring.
type bell struct {
	mu sync.Mutex
	c  chan struct{}
}

// rung is closed at the next ring.
func (b *bell) rung() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c == nil {
		b.c = make(chan struct{})
	}
	return b.c
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c != nil {
		close(b.c)
		b.c = nil
	}
}
