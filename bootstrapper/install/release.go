package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"time"

	"github.com/Masterminds/semver/v3"
	"helm.sh/helm/v3/pkg/action"
	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	"sigs.k8s.io/yaml"
)

// Outcome is what was done about the chart's release.
type Outcome string

// The outcomes.
const (
	Installed Outcome = "installed"
	Upgraded  Outcome = "upgraded"
	Kept      Outcome = "as it was"
	Newer     Outcome = "newer than ours, left alone"
)

// ReleaseStatus is a release after Chart looked at it.
type ReleaseStatus struct {
	Outcome  Outcome
	Revision int
	Version  string // of the chart that is in force
}

// verdict is what has to be done about a release.
type verdict int

const (
	doInstall verdict = iota
	doUpgrade
	keep
	keepNewer
)

// judge says what has to be done so that the chart, with at least the given
// values, is in force. last is the last release, nil when there is none. Values
// that a person added to a release stay; a newer chart stays too: whoever put it
// there knew more than this program.
func judge(last *release.Release, chart *helmchart.Chart, values map[string]any) (verdict, map[string]any) {
	if last == nil {
		return doInstall, values
	}
	merged := chartutil.MergeTables(copyValues(values), copyValues(last.Config))
	if last.Info == nil || last.Info.Status != release.StatusDeployed {
		return doUpgrade, merged
	}
	if newer(last.Chart, chart) {
		return keepNewer, nil
	}
	if sameChart(last.Chart, chart) && sameValues(last.Config, merged) {
		return keep, nil
	}
	return doUpgrade, merged
}

func newer(theirs, ours *helmchart.Chart) bool {
	if theirs == nil || theirs.Metadata == nil {
		return false
	}
	a, errA := semver.NewVersion(theirs.Metadata.Version)
	b, errB := semver.NewVersion(ours.Metadata.Version)
	return errA == nil && errB == nil && a.GreaterThan(b)
}

// sameChart compares what of a chart has an effect.
func sameChart(a, b *helmchart.Chart) bool {
	if a == nil || a.Metadata == nil {
		return false
	}
	files := func(c *helmchart.Chart) map[string]string {
		out := map[string]string{}
		for _, f := range append(append([]*helmchart.File{}, c.Templates...), c.Files...) {
			out[f.Name] = string(f.Data)
		}
		return out
	}
	return a.Metadata.Version == b.Metadata.Version && a.Metadata.AppVersion == b.Metadata.AppVersion &&
		sameValues(a.Values, b.Values) && reflect.DeepEqual(files(a), files(b))
}

// sameValues compares values as they are stored: a number from YAML and the same
// from JSON differ in type.
func sameValues(a, b map[string]any) bool {
	if len(a) == 0 && len(b) == 0 {
		return true
	}
	x, errX := yaml.Marshal(a)
	y, errY := yaml.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

func copyValues(in map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range in {
		if table, ok := value.(map[string]any); ok {
			value = copyValues(table)
		}
		out[key] = value
	}
	return out
}

// release is Helm, and the last release of our name, nil if there is none.
func (c *Client) release(logger *slog.Logger) (*action.Configuration, *release.Release, error) {
	said := func(format string, args ...any) { logger.Debug("helm: " + fmt.Sprintf(format, args...)) }
	// What Configuration.Init does for the storage in Secrets; Init itself would
	// link the storage in SQL databases.
	secrets := driver.NewSecrets(c.core.CoreV1().Secrets(Namespace))
	secrets.Log = said
	client := kube.New(getter{c})
	client.Log = said
	helm := &action.Configuration{
		RESTClientGetter: getter{c},
		Releases:         storage.Init(secrets),
		KubeClient:       client,
		Log:              said,
		HookOutputFunc:   func(_, _, _ string) io.Writer { return io.Discard },
	}
	last, err := helm.Releases.Last(Release)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return helm, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the Helm release %s: %w", Release, err)
	}
	return helm, last, nil
}

// NewerChart is the version of the chart in force if it is newer than this one;
// otherwise empty. Then neither the chart nor the definitions that go with it are
// ours to change.
func (c *Client) NewerChart(chart *helmchart.Chart, logger *slog.Logger) (string, error) {
	_, last, err := c.release(logger)
	if err != nil || last == nil {
		return "", err
	}
	if newer(last.Chart, chart) {
		return last.Chart.Metadata.Version, nil
	}
	return "", nil
}

// Chart sees to it that the chart, with at least these values, is the release in
// force. It does not wait for what the chart starts: see Available. A release
// that an interrupted run left half-made is taken up. Helm's words go to logger
// at level debug.
func (c *Client) Chart(ctx context.Context, chart *helmchart.Chart, values map[string]any, logger *slog.Logger) (ReleaseStatus, error) {
	helm, last, err := c.release(logger)
	if err != nil {
		return ReleaseStatus{}, err
	}
	if last != nil && last.Info.Status.IsPending() {
		last.SetStatus(release.StatusFailed, "the bootstrapper was interrupted")
		if err := helm.Releases.Update(last); err != nil {
			return ReleaseStatus{}, fmt.Errorf("cannot take up the Helm release %s: %w", Release, err)
		}
	}
	verdict, values := judge(last, chart, values)
	switch verdict {
	case keep:
		return status(Kept, last), nil
	case keepNewer:
		return status(Newer, last), nil
	case doUpgrade:
		upgrade := action.NewUpgrade(helm)
		upgrade.Namespace, upgrade.SkipCRDs, upgrade.Timeout = Namespace, true, helmTimeout(ctx)
		upgrade.MaxHistory = 10 // Helm's own default on its command line
		made, err := upgrade.RunWithContext(ctx, Release, chart, values)
		if err != nil {
			return ReleaseStatus{}, fmt.Errorf("cannot upgrade the operator's chart: %w", err)
		}
		return status(Upgraded, made), nil
	}
	install := action.NewInstall(helm)
	install.ReleaseName, install.Namespace, install.CreateNamespace = Release, Namespace, true
	install.SkipCRDs, install.Timeout = true, helmTimeout(ctx)
	made, err := install.RunWithContext(ctx, chart, values)
	if err != nil {
		return ReleaseStatus{}, fmt.Errorf("cannot install the operator's chart: %w", err)
	}
	return status(Installed, made), nil
}

func status(outcome Outcome, r *release.Release) ReleaseStatus {
	return ReleaseStatus{Outcome: outcome, Revision: r.Version, Version: r.Chart.Metadata.Version}
}

// helmTimeout is for hooks, which Helm does not bind to a context.
func helmTimeout(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return 10 * time.Minute
}
