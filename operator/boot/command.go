package boot

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client/config"

	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

// Command is the command `pxe`: it boots machines from the network until it is told
// to stop. It writes its log to the command's error output.
func Command() *cobra.Command {
	var (
		o          Options
		archives   []string
		kubeconfig string
		level      = slog.LevelInfo
		format     string
	)
	cmd := &cobra.Command{
		Use:   names.PXECommand,
		Short: "Boot declared machines from the network",
		Long: `Answer DHCP, TFTP and HTTP for the declared machines until told to stop by SIGTERM
or SIGINT.

Any number may run, at most one a host: it needs the host's network, and the
capabilities NET_BIND_SERVICE and NET_RAW. Without --kubeconfig the environment
variable KUBECONFIG, the service account of the pod, and ~/.kube/config are tried,
in this order.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := newLogger(cmd.ErrOrStderr(), level, format)
			if err != nil {
				return err
			}
			klog.SetSlogLogger(logger)
			o.Logger = logger
			if o.Archives, err = parseArchives(archives); err != nil {
				return err
			}
			cfg, err := restConfig(kubeconfig)
			if err != nil {
				return err
			}
			logger.Info("starting", "version", cmd.Root().Version, "api", cfg.Host)
			return Run(cmd.Context(), cfg, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.PXENamespace, "pxe-namespace", names.DefaultPXENamespace, "`namespace` of the claims and of the certificate that is served")
	f.StringVar(&o.NodeName, "node-name", os.Getenv("NODE_NAME"), "`name` of the member that this runs on (default: the environment variable NODE_NAME)")
	f.StringVar(&o.PodName, "pod-name", os.Getenv("POD_NAME"), "`name` of the pod (default: the environment variable POD_NAME)")
	f.StringVar(&o.HealthAddress, "health-address", fmt.Sprintf(":%d", names.HealthPort), "`address` that /healthz and /readyz are served on, over HTTP; 0 serves none")
	f.StringVar(&o.MetricsAddress, "metrics-address", fmt.Sprintf(":%d", names.MetricsPort), "`address` that /metrics is served on, over HTTP; no metric names a machine; 0 serves none")
	f.StringVar(&o.BootFiles, "boot-files", "/boot", "`directory` of the boot loaders and installers")
	f.StringVar(&o.MediaDir, "media-dir", names.MediaDir, "`directory` that installer media are kept in")
	f.StringArrayVar(&o.ImageDirs, "image-dir", nil, "`directory` of files that travelled with the installation, found by their digests; may be repeated")
	f.StringArrayVar(&archives, "image-archive", nil, "archive of container images that every machine gets, as `NAME:SHA256`; may be repeated")
	f.Uint16Var(&o.HTTPPort, "http-port", names.HTTPPort, "TCP `port` of HTTP")
	f.Uint16Var(&o.HTTPSPort, "https-port", names.HTTPSPort, "TCP `port` of HTTPS")
	f.StringVar(&kubeconfig, "kubeconfig", "", "`file` that says how the API server is reached")
	f.TextVar(&level, "log-level", level, "least `level` that is logged: debug, info, warn or error")
	f.StringVar(&format, "log-format", "json", "`format` of the log: json or text")
	return cmd
}

// Off as an address means that nothing listens.
const Off = "0"

// Options are what a person may set of a PXE pod.
type Options struct {
	// PXENamespace holds the claims and the serving certificate.
	PXENamespace string
	// NodeName and PodName say who this is.
	NodeName, PodName string
	// HealthAddress and MetricsAddress are served over HTTP; Off: nowhere.
	HealthAddress, MetricsAddress string
	// BootFiles is the directory of loader/ and installer/.
	BootFiles string
	// MediaDir keeps the media; ImageDirs are looked through for them.
	MediaDir  string
	ImageDirs []string
	// Archives are further archives of container images for every machine. They have
	// no URL: they lie in an ImageDir or with another PXE pod.
	Archives []media.Source
	// HTTPPort and HTTPSPort; zero: the defaults. All PXE pods have the same.
	HTTPPort, HTTPSPort uint16
	// Logger takes what is logged; it must be set.
	Logger *slog.Logger
	// Now is the clock. Nil: the system's.
	Now func() time.Time

	// findLink stands in for findLink in tests, which have no such network.
	findLink func(linkWish) (link, error)
}

// check fills defaults in and says what is missing.
func (o *Options) check() error {
	for _, f := range []struct{ flag, value string }{
		{"--pxe-namespace", o.PXENamespace}, {"--node-name", o.NodeName}, {"--pod-name", o.PodName},
		{"--boot-files", o.BootFiles}, {"--media-dir", o.MediaDir},
	} {
		if f.value == "" {
			return fmt.Errorf("%s is empty: set it", f.flag)
		}
	}
	if o.HTTPPort == 0 {
		o.HTTPPort = names.HTTPPort
	}
	if o.HTTPSPort == 0 {
		o.HTTPSPort = names.HTTPSPort
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.findLink == nil {
		o.findLink = findLink
	}
	return nil
}

// parseArchives reads NAME:SHA256.
func parseArchives(given []string) ([]media.Source, error) {
	var all []media.Source
	for _, g := range given {
		name, digest, ok := strings.Cut(g, ":")
		if !ok || name == "" || len(digest) != 64 || strings.Trim(digest, "0123456789abcdef") != "" {
			return nil, fmt.Errorf("--image-archive is %q: want NAME:SHA256, the digest as 64 lower-case hexadecimal digits", g)
		}
		all = append(all, media.Source{Name: name, SHA256: digest})
	}
	return all, nil
}

func newLogger(w io.Writer, level slog.Level, format string) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format is %q: set json or text", format)
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	load := config.GetConfig
	if kubeconfig != "" {
		load = func() (*rest.Config, error) { return clientcmd.BuildConfigFromFlags("", kubeconfig) }
	}
	cfg, err := load()
	if err != nil {
		return nil, fmt.Errorf("cannot tell how the API server is reached: %w; set --kubeconfig", err)
	}
	return cfg, nil
}
