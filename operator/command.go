package operator

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/rhizome-dev/rhizome/internal/flags"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/operator/gitops"
)

// Command is the command `operator`: it runs the controllers until it is told to
// stop. It writes its log to the command's error output.
func Command() *cobra.Command {
	var (
		o   = Options{ShutdownTimeout: 20 * time.Second}
		log flags.Log
		api flags.API

		withGitOps bool
	)
	cmd := &cobra.Command{
		Use:   "operator",
		Short: "Run the controllers",
		Long: `Run the controllers until told to stop by SIGTERM or SIGINT.

Any number of replicas may run: the one that holds the Lease rhizome-operator acts.
Without --kubeconfig the environment variable KUBECONFIG, the service account of
the pod, and ~/.kube/config are tried, in this order.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := log.Logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := o.Pauses.complete(); err != nil {
				return err
			}
			klog.SetSlogLogger(logger)
			o.Logger = logger
			o.PXEArgs = log.Args()
			o.WithoutGitOps = !withGitOps
			cfg, err := api.Config()
			if err != nil {
				return err
			}
			logger.Info("starting", "version", cmd.Root().Version, "api", cfg.Host)
			return Run(cmd.Context(), cfg, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.MetricsAddress, "metrics-address", ":8443",
		"`address` that metrics are served on, over HTTPS, to those whom the API server allows to get /metrics; 0 serves none")
	f.StringVar(&o.HealthAddress, "health-address", ":8081", "`address` that /healthz and /readyz are served on, over HTTP; 0 serves none")
	f.BoolVar(&o.LeaderElection, "leader-election", true, "let one of several replicas act; turn it off only where there is never a second one")
	f.StringVar(&o.Namespace, "namespace", "", "`namespace` of the Lease and of the operator's Secrets; the pod's own when it is not set")
	f.StringVar(&o.NodeName, "node-name", os.Getenv("NODE_NAME"),
		"`name` of the member that the operator runs on; without it no member is repaired (environment: NODE_NAME)")
	f.StringVar(&o.PXENamespace, "pxe-namespace", names.DefaultPXENamespace, "`namespace` of the PXE pods")
	f.StringVar(&o.PXEImage, "pxe-image", os.Getenv("RHIZOME_PXE_IMAGE"),
		"`image` of the PXE pods: the operator's own, which the chart names; without it none are run (environment: RHIZOME_PXE_IMAGE)")
	f.Var(resourcesFlag{&o.PXEResources}, "pxe-resources", "requests and limits of a PXE pod, as `JSON`")
	f.Var(&o.Archives, "image-archive",
		"an image archive that travelled with the installation, as `NAME:SHA256`; new members get it too; may be given again")
	f.BoolVar(&withGitOps, "gitops", true, "run the controller of the resource GitOps, which installs Argo CD")
	f.StringVar(&o.InstallAs, "install-as", "",
		"`user` in whose name Argo CD is installed, such as system:serviceaccount:rhizome-system:rhizome-installer; the operator itself when it is not set")
	f.StringVar(&o.PushAddress, "push-address", "", "`address` that Gitea tells of pushes at, over HTTP; without it sources are looked at now and then")
	f.StringVar(&o.PushURL, "push-url", "", "`URL` of push-address as Gitea reaches it, with the path "+gitops.HookPath)
	o.Pauses.add(f)
	f.DurationVar(&o.ShutdownTimeout, "shutdown-timeout", o.ShutdownTimeout, "how long work that has begun may take to end when told to stop")
	api.Add(cmd)
	log.Add(cmd)
	return cmd
}
