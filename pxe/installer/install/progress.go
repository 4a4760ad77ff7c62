package install

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/disk"
	"github.com/rhizome-dev/rhizome/pxe/installer/stream"
)

// follow reports the progress until the function that it returns is called. A
// report that gets lost does not matter, the next one says more; a refusal ends
// the installation.
func (i *installation) follow(ctx context.Context, cancel context.CancelCauseFunc, p *stream.Progress) (stop func()) {
	ctx, end := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var last int64
		lastTime, lastLine := i.Now(), time.Time{}
		for sleep(ctx, i.Patience.Progress) == nil {
			done, total, now := p.Done.Load(), p.Total.Load(), i.Now()
			rate := int64(float64(done-last) / max(now.Sub(lastTime).Seconds(), 0.001))
			last, lastTime = done, now
			line := describe(done, total, p.Written.Load(), rate)
			if now.Sub(lastLine) >= i.Patience.Line {
				lastLine = now
				i.say("image: %s", line)
			}
			attempt, cancelAttempt := context.WithTimeout(ctx, i.Patience.Lost)
			err := i.reports.Once(attempt, pxe.Report{
				Stage: pxe.StageInstalling, Step: stepImage, Message: line,
				Done: done, Total: max(total, 0), Disk: i.disk,
			})
			cancelAttempt()
			var refusal *pxe.Refusal
			if errors.As(err, &refusal) {
				cancel(fmt.Errorf("the server withdrew its consent: %w", refusal))
				return
			}
		}
	}()
	return func() {
		end()
		<-done
	}
}

// describe is one line: "512.0 MB of 1.2 GB (43 %), 98.3 MB/s, 1.9 GB on the disk".
func describe(done, total, written, rate int64) string {
	s := disk.Bytes(done)
	if total > 0 {
		s += fmt.Sprintf(" of %s (%d %%)", disk.Bytes(total), done*100/total)
	}
	return s + fmt.Sprintf(", %s/s, %s on the disk", disk.Bytes(max(rate, 0)), disk.Bytes(written))
}
