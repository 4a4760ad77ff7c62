package boot

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/rhizome-dev/rhizome/internal/flags"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

// Command is the command `pxe`: it boots machines from the network until it is told
// to stop. It writes its log to the command's error output.
func Command() *cobra.Command {
	var (
		o        Options
		archives flags.Archives
		log      flags.Log
		api      flags.API
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
			logger, err := log.Logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			klog.SetSlogLogger(logger)
			o.Logger = logger
			for _, a := range archives {
				o.Archives = append(o.Archives, media.Source{Name: a.Name, SHA256: a.SHA256})
			}
			cfg, err := api.Config()
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
	f.StringVar(&o.HealthAddress, "health-address", fmt.Sprintf("127.0.0.1:%d", names.HealthPort), "`address` that /healthz and /readyz are served on, over HTTP; only the machine's own kubelet need reach it; 0 serves none")
	f.StringVar(&o.MetricsAddress, "metrics-address", fmt.Sprintf(":%d", names.MetricsPort), "`address` that /metrics is served on, over HTTP; no metric names a machine; 0 serves none")
	f.StringVar(&o.BootFiles, "boot-files", "/boot", "`directory` of the boot loaders and installers")
	f.StringVar(&o.MediaDir, "media-dir", names.MediaDir, "`directory` that installer media are kept in")
	f.StringArrayVar(&o.ImageDirs, "image-dir", nil, "`directory` of files that travelled with the installation, found by their digests; may be repeated")
	f.Var(&archives, "image-archive", "archive of container images that every machine gets, as `NAME:SHA256`; may be repeated")
	f.Uint16Var(&o.HTTPPort, "http-port", names.HTTPPort, "TCP `port` of HTTP")
	f.Uint16Var(&o.HTTPSPort, "https-port", names.HTTPSPort, "TCP `port` of HTTPS")
	f.DurationVar(&o.ReachInterval, "reach-interval", DefaultReachInterval, "how often members that are not Ready are tried to be reached")
	api.Add(cmd)
	log.Add(cmd)
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
	// ReachInterval is how often members that are not Ready are tried to be reached.
	// Zero: DefaultReachInterval.
	ReachInterval time.Duration
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
	if o.ReachInterval < 0 {
		return fmt.Errorf("--reach-interval is %s: set a time above zero", o.ReachInterval)
	}
	if o.ReachInterval == 0 {
		o.ReachInterval = DefaultReachInterval
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.findLink == nil {
		o.findLink = findLink
	}
	return nil
}
