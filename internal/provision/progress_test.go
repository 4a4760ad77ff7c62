package provision

import (
	"context"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
)

// counted counts the changes that are asked for.
type counted struct {
	*Ledger
	updates int
}

func (c *counted) Update(ctx context.Context, mac pxe.MAC, change func(*Claim) error) error {
	c.updates++
	return c.Ledger.Update(ctx, mac, change)
}

// An installer tells many times how far it is. Only what moves its claim is worth a
// request to those who keep it.
func TestOnlyAReportThatMovesTheClaimAsksItsKeeper(t *testing.T) {
	ended, expired := consumed(), openClaim()
	ended.FailedAt, ended.Failure = after(2*time.Minute), "no disk"
	pinned := consumed()
	pinned.UUID = uuidA
	for _, c := range []struct {
		reason  string
		claim   Claim
		report  pxe.Report
		updates int
		want    string // rule
	}{
		{"progress", consumed(), pxe.Report{Stage: pxe.StageInstalling, Done: 1, Total: 2}, 0, ""},
		{"progress of the machine that is known", pinned, pxe.Report{Stage: pxe.StageInstalling, UUID: uuidA}, 0, ""},
		{"its UUID is new", consumed(), pxe.Report{Stage: pxe.StageInstalling, UUID: uuidA}, 1, ""},
		{"done", consumed(), pxe.Report{Stage: pxe.StageInstalled}, 1, ""},
		{"failed", consumed(), pxe.Report{Stage: pxe.StageFailed}, 1, ""},
		{"another machine", pinned, pxe.Report{Stage: pxe.StageInstalling, UUID: uuidB}, 1, RuleWrongMachine},
		{"it had failed", ended, pxe.Report{Stage: pxe.StageInstalling}, 1, RuleClaimFailed},
		{"nothing was consumed", expired, pxe.Report{Stage: pxe.StageInstalling}, 1, RuleClaimNotConsumed},
	} {
		t.Run(c.reason, func(t *testing.T) {
			s := newScene(t, c.claim)
			keeper := &counted{Ledger: s.ledger}
			s.c.Claims = keeper
			s.at(11 * time.Minute)
			err := s.Report(t.Context(), c.claim.ID, c.report, leased)
			if got := ruleOf(err); got != c.want || keeper.updates != c.updates {
				t.Errorf("refused by %q after %d requests, want %q after %d", got, keeper.updates, c.want, c.updates)
			}
			if o := s.last(); c.want == "" && (o.Stage != c.report.Stage || o.Done != c.report.Done) {
				t.Errorf("observed %+v", o)
			}
		})
	}
}
