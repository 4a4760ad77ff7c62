// Package flags holds the flags that the commands of the cluster's binary have in
// common: how they log, how they reach the API server, and which image archives
// travelled with the installation.
package flags

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
)

// Log is what is logged and how: --log-level and --log-format. The zero value is
// completed by Add.
type Log struct {
	// Level is the least that is logged. The zero value: info.
	Level slog.Level
	// Format is json or text.
	Format string
}

// Add gives a command the flags.
func (l *Log) Add(cmd *cobra.Command) {
	cmd.Flags().TextVar(&l.Level, "log-level", l.Level, "least `level` that is logged: debug, info, warn or error")
	cmd.Flags().StringVar(&l.Format, "log-format", "json", "`format` of the log: json or text")
}

// Logger writes to w. Its error names the flag that is wrong.
func (l *Log) Logger(w io.Writer) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: l.Level}
	switch l.Format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format is %q: set json or text", l.Format)
}

// Args are the flags as they were given, for a command that is to log alike.
func (l *Log) Args() []string {
	return []string{"--log-level=" + l.Level.String(), "--log-format=" + l.Format}
}

// API is the way to the API server: --kubeconfig.
type API struct{ kubeconfig string }

// Add gives a command the flag.
func (a *API) Add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.kubeconfig, "kubeconfig", "", "`file` that says how the API server is reached")
}

// Config is the file's; without one that of the environment variable KUBECONFIG, of
// the pod's service account, or of ~/.kube/config, in this order.
func (a *API) Config() (*rest.Config, error) {
	load := config.GetConfig
	if a.kubeconfig != "" {
		load = func() (*rest.Config, error) { return clientcmd.BuildConfigFromFlags("", a.kubeconfig) }
	}
	cfg, err := load()
	if err != nil {
		return nil, fmt.Errorf("cannot tell how the API server is reached: %w; set --kubeconfig", err)
	}
	return cfg, nil
}
