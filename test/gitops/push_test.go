//go:build linux

package gitops

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "code.gitea.io/sdk/gitea"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/bootstrapper/install"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/argocd"
	"github.com/rhizome-dev/rhizome/test/gitea"
	"github.com/rhizome-dev/rhizome/test/gitserver"
)

// benchPoll is how often Argo CD polls in the benchmark. Its default is three minutes,
// and up to one more by chance.
const benchPoll = 30 * time.Second

// BenchmarkAPushUntilArgoCDHasSyncedIt measures the time from the end of `git push` to
// Gitea until Argo CD has synced the commit: with the operator, whom Gitea tells of it,
// and with Argo CD's polling alone, when the operator is stopped. Run it by
// `go run ./test/bench gitops`.
func BenchmarkAPushUntilArgoCDHasSyncedIt(b *testing.B) {
	w := start(b)
	home := gitea.Start(b)
	if err := w.Create(b.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "gitea-admin", Namespace: install.Namespace},
		Data:       map[string][]byte{"username": []byte(gitea.Admin), "password": []byte(home.Password)},
	}); err != nil {
		b.Fatal(err)
	}
	argo := w.follow(b, &v1alpha1.HomeSource{
		URL: home.URL, Owner: "home", Repository: "lab", Layer: "apps", Credentials: v1alpha1.SecretReference{Name: "gitea-admin"},
	}, fmt.Sprintf("ARGOCD_RECONCILIATION_TIMEOUT=%ds", int(benchPoll.Seconds())), "ARGOCD_RECONCILIATION_JITTER=0s")
	w.awaitReady(b, v1alpha1.SourceHome)
	until(b, "Gitea tells of pushes", func(context.Context) string {
		hooks, _, err := home.Client(b).ListRepoHooks("home", "lab", sdk.ListHooksOptions{})
		if err != nil || len(hooks) == 0 {
			return fmt.Sprintf("%d webhooks, %v", len(hooks), err)
		}
		return ""
	})
	clone := gitserver.NewClone(b, home.PushURL(b, "home", "lab"))
	n := 0
	push := func(b *testing.B) time.Duration {
		b.Helper()
		// At any moment between two polls.
		time.Sleep(rand.N(benchPoll)) //nolint:gosec // it is no secret
		n++
		commit := clone.CommitOnly(b, "next", map[string]string{"apps/two/config.yaml": configMap("two", fmt.Sprint(n))})
		clone.Push(b)
		begin := time.Now()
		until(b, "the commit is synced", func(ctx context.Context) string {
			all, err := argo.Applications(ctx)
			if err != nil {
				return err.Error()
			}
			if all["two"] == nil {
				return "there is no Application"
			}
			return strings.Join(argocd.Lacks(all["two"], commit), ", ")
		})
		return time.Since(begin)
	}
	measure := func(b *testing.B) {
		var all []time.Duration
		for b.Loop() {
			all = append(all, push(b))
		}
		slices.Sort(all)
		b.ReportMetric(0, "ns/op") // with the waits between, it says nothing
		b.ReportMetric(all[len(all)/2].Seconds(), "median-s")
		b.ReportMetric(all[len(all)-1].Seconds(), "longest-s")
	}
	b.Run("webhook", measure)
	w.stop()
	b.Run("polling", measure)
}
