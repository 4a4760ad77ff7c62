// Command pause holds a pod's namespaces open: it waits for a signal to end
// and, as process 1 of a shared process namespace, reaps what dies in it. It
// is the lab's substitute for the pause image.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if err != nil && err != syscall.EINTR || pid == 0 {
				break
			}
		}
	}
}
