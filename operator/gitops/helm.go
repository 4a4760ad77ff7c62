package gitops

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"helm.sh/helm/v3/pkg/action"
	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/getter"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/registry"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	"helm.sh/helm/v3/pkg/repo"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// helmTimeout bounds the chart's hooks.
const helmTimeout = 10 * time.Minute

// baseValues are what the operator relies on; a person's values go before. The
// tracking by annotation keeps Argo CD from taking Helm's labels for its own.
func baseValues() map[string]any {
	return map[string]any{
		"crds": map[string]any{"install": true, "keep": true},
		"configs": map[string]any{
			"cm": map[string]any{"application.resourceTrackingMethod": "annotation"},
			// Keys with dots in them, as the chart has them.
			"params": map[string]any{"applicationsetcontroller.enable.policy.override": "true"},
		},
	}
}

// argoValues are the values that the chart is installed with.
func argoValues(spec v1alpha1.ArgoCDSpec) (map[string]any, error) {
	values := map[string]any{}
	if spec.Values != nil && len(spec.Values.Raw) > 0 {
		if err := json.Unmarshal(spec.Values.Raw, &values); err != nil {
			return nil, fmt.Errorf("cannot read spec.argoCD.values: %w", err)
		}
	}
	return chartutil.MergeTables(values, baseValues()), nil
}

// fetchChart downloads a chart of a repository into memory, and holds it to the
// digest that the repository's index says.
func fetchChart(spec v1alpha1.ArgoCDSpec) (*helmchart.Chart, error) {
	what := fmt.Sprintf("the chart %s %s of %s", spec.Chart, spec.Version, spec.Repository)
	if strings.HasPrefix(spec.Repository, "oci://") {
		client, err := registry.NewClient()
		if err != nil {
			return nil, fmt.Errorf("cannot fetch %s: %w", what, err)
		}
		pulled, err := client.Pull(strings.TrimPrefix(spec.Repository, "oci://")+"/"+spec.Chart+":"+strings.ReplaceAll(spec.Version, "+", "_"), registry.PullOptWithChart(true))
		if err != nil {
			return nil, fmt.Errorf("cannot fetch %s: %w", what, err)
		}
		return load(what, pulled.Chart.Data)
	}
	get, err := getter.NewHTTPGetter(getter.WithTimeout(2 * time.Minute))
	if err != nil {
		return nil, fmt.Errorf("cannot fetch %s: %w", what, err)
	}
	base := strings.TrimSuffix(spec.Repository, "/") + "/"
	content, err := get.Get(base + "index.yaml")
	if err != nil {
		return nil, fmt.Errorf("cannot fetch the index of %s: %w", spec.Repository, err)
	}
	index := repo.NewIndexFile()
	if err := yaml.Unmarshal(content.Bytes(), index); err != nil {
		return nil, fmt.Errorf("cannot read the index of %s: %w", spec.Repository, err)
	}
	index.SortEntries()
	version, err := index.Get(spec.Chart, spec.Version)
	if err != nil || len(version.URLs) == 0 {
		return nil, fmt.Errorf("%s is not to be had: correct spec.argoCD.chart or spec.argoCD.version", what)
	}
	at, err := url.Parse(base)
	if err == nil {
		at, err = at.Parse(version.URLs[0])
	}
	if err != nil {
		return nil, fmt.Errorf("cannot fetch %s: its index says the URL %q", what, version.URLs[0])
	}
	archive, err := get.Get(at.String())
	if err != nil {
		return nil, fmt.Errorf("cannot fetch %s: %w", what, err)
	}
	sum := sha256.Sum256(archive.Bytes())
	if version.Digest != "" && strings.TrimPrefix(version.Digest, "sha256:") != hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("%s is not what the index says: its SHA-256 is %x", what, sum)
	}
	return load(what, archive.Bytes())
}

func load(what string, archive []byte) (*helmchart.Chart, error) {
	chart, err := loader.LoadArchive(bytes.NewReader(archive))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", what, err)
	}
	return chart, nil
}

// helm is Helm in one namespace of the operator's cluster.
func helm(config *rest.Config, namespace string, log logr.Logger) (*action.Configuration, error) {
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client: %w", err)
	}
	said := func(format string, args ...any) { log.V(1).Info("helm: " + fmt.Sprintf(format, args...)) }
	secrets := driver.NewSecrets(core.CoreV1().Secrets(namespace))
	secrets.Log = said
	client := kube.New(restGetter{config, namespace})
	client.Log, client.Namespace = said, namespace
	return &action.Configuration{
		RESTClientGetter: restGetter{config, namespace}, Releases: storage.Init(secrets), KubeClient: client, Log: said,
	}, nil
}

// lastRelease is the last release of Argo CD; nil: there is none.
func lastRelease(h *action.Configuration) (*release.Release, error) {
	last, err := h.Releases.Last(argoRelease)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the Helm release %s: %w", argoRelease, err)
	}
	return last, nil
}

// installChart installs Argo CD, or puts back what of it is gone: then with the
// chart and the values of the release that is there, so that a repair is no upgrade.
// Of an Argo CD that was handed over only what is gone is made, and nothing that is
// there is touched: it may be newer than the release by now.
func installChart(ctx context.Context, h *action.Configuration, spec v1alpha1.ArgoCDSpec, handedOver bool) error {
	last, err := lastRelease(h)
	if err != nil {
		return err
	}
	if handedOver && last != nil && last.Chart != nil && last.Manifest != "" {
		return putBack(h, last)
	}
	if last != nil && last.Info.Status.IsPending() {
		last.SetStatus(release.StatusFailed, "the operator was interrupted")
		if err := h.Releases.Update(last); err != nil {
			return fmt.Errorf("cannot take up the Helm release %s: %w", argoRelease, err)
		}
	}
	if last != nil && last.Info.Status == release.StatusDeployed && last.Chart != nil {
		return upgrade(ctx, h, spec.Namespace, last.Chart, last.Config)
	}
	chart, err := fetchChart(spec)
	if err != nil {
		return err
	}
	values, err := argoValues(spec)
	if err != nil {
		return err
	}
	if last != nil {
		return upgrade(ctx, h, spec.Namespace, chart, values)
	}
	if err := define(h, chart); err != nil {
		return err
	}
	install := action.NewInstall(h)
	install.ReleaseName, install.Namespace, install.CreateNamespace, install.Timeout = argoRelease, spec.Namespace, true, helmTimeout
	install.SkipCRDs = true
	if _, err := install.RunWithContext(ctx, chart, values); err != nil {
		return fmt.Errorf("cannot install Argo CD: %w", err)
	}
	return nil
}

// define creates those of a chart's definitions that are not there, and waits until all
// are served. Helm would send all of them again each time, and wait for a minute: a
// small machine needs longer for definitions of a megabyte.
func define(h *action.Configuration, chart *helmchart.Chart) error {
	var all kube.ResourceList
	for _, crd := range chart.CRDObjects() {
		resources, err := createMissing(h, crd.File.Data)
		if err != nil {
			return fmt.Errorf("cannot make the definitions of Argo CD: %w", err)
		}
		all = append(all, resources...)
	}
	return served(h, all)
}

// served waits until definitions are served.
func served(h *action.Configuration, definitions kube.ResourceList) error {
	if len(definitions) == 0 {
		return nil
	}
	if err := h.KubeClient.Wait(definitions, helmTimeout); err != nil {
		return fmt.Errorf("the definitions of Argo CD are not served: %w", err)
	}
	return nil
}

// createMissing creates those of some manifests' objects that are not there, and
// returns all of them.
func createMissing(h *action.Configuration, manifests []byte) (kube.ResourceList, error) {
	if len(manifests) == 0 {
		return nil, nil
	}
	all, err := h.KubeClient.Build(bytes.NewReader(manifests), false)
	if err != nil {
		return nil, fmt.Errorf("cannot read the chart's manifests: %w", err)
	}
	for _, r := range all {
		err := r.Get()
		if apierrors.IsNotFound(err) {
			_, err = h.KubeClient.Create(kube.ResourceList{r})
		}
		if err != nil && !strings.Contains(err.Error(), "already exists") {
			return nil, fmt.Errorf("cannot make %s: %w", r.ObjectName(), err)
		}
	}
	return all, nil
}

// putBack creates what of a release is gone. Definitions go first: without them other
// objects of the release cannot even be read.
func putBack(h *action.Configuration, last *release.Release) error {
	if err := define(h, last.Chart); err != nil {
		return err
	}
	var definitions, others []string
	documents := releaseutil.SplitManifests(last.Manifest)
	order := slices.Collect(maps.Keys(documents))
	sort.Sort(releaseutil.BySplitManifestsOrder(order))
	for _, name := range order {
		document := documents[name]
		var head struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal([]byte(document), &head); err != nil {
			return fmt.Errorf("cannot read the Helm release %s: %w", argoRelease, err)
		}
		if head.Kind == crdKind.Kind {
			definitions = append(definitions, document)
		} else {
			others = append(others, document)
		}
	}
	made, err := createMissing(h, []byte(strings.Join(definitions, "\n---\n")))
	if err == nil {
		err = served(h, made)
	}
	if err == nil {
		_, err = createMissing(h, []byte(strings.Join(others, "\n---\n")))
	}
	if err != nil {
		return fmt.Errorf("cannot repair Argo CD: %w", err)
	}
	return nil
}

func upgrade(ctx context.Context, h *action.Configuration, namespace string, chart *helmchart.Chart, values map[string]any) error {
	// Helm installs a chart's directory crds once, and never looks at it again.
	if err := define(h, chart); err != nil {
		return err
	}
	u := action.NewUpgrade(h)
	u.Namespace, u.Timeout, u.MaxHistory = namespace, helmTimeout, 10
	if _, err := u.RunWithContext(ctx, argoRelease, chart, values); err != nil {
		return fmt.Errorf("cannot repair Argo CD: %w", err)
	}
	return nil
}

// restGetter gives Helm the operator's own access.
type restGetter struct {
	config    *rest.Config
	namespace string
}

func (g restGetter) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.config), nil }

func (g restGetter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	client, err := discovery.NewDiscoveryClientForConfig(g.config)
	if err != nil {
		return nil, err
	}
	return memory.NewMemCacheClient(client), nil
}

func (g restGetter) ToRESTMapper() (meta.RESTMapper, error) {
	client, err := g.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	return restmapper.NewShortcutExpander(restmapper.NewDeferredDiscoveryRESTMapper(client), client, nil), nil
}

func (g restGetter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	overrides := &clientcmd.ConfigOverrides{}
	overrides.Context.Namespace = g.namespace
	return clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(), overrides)
}
