// Command argocd runs the unmodified programs of Argo CD that sync
// Applications: the application controller, the ApplicationSet controller and
// the repo-server, with the helper through which git asks the repo-server for
// credentials. It is a test tool: the tests start these natively, as Argo CD's
// own image starts them in pods.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	controller "github.com/argoproj/argo-cd/v2/cmd/argocd-application-controller/commands"
	applicationset "github.com/argoproj/argo-cd/v2/cmd/argocd-applicationset-controller/commands"
	askpass "github.com/argoproj/argo-cd/v2/cmd/argocd-git-ask-pass/commands"
	reposerver "github.com/argoproj/argo-cd/v2/cmd/argocd-repo-server/commands"
	"github.com/spf13/cobra"
)

var programs = map[string]func() *cobra.Command{
	"argocd-application-controller":    controller.NewCommand,
	"argocd-applicationset-controller": applicationset.NewCommand,
	"argocd-repo-server":               reposerver.NewCommand,
	"argocd-git-ask-pass":              askpass.NewCommand,
}

func main() {
	// The repo-server has git call "argocd" with this variable set, as it does in
	// Argo CD's image, where every program is one file, too.
	name := os.Getenv("ARGOCD_BINARY_NAME")
	if name == "" {
		name = filepath.Base(os.Args[0])
	}
	program, known := programs[name]
	if !known {
		fmt.Fprintf(os.Stderr, "argocd: there is no program %q in here; the name by which it is called chooses it\n", name)
		os.Exit(2)
	}
	if err := program().Execute(); err != nil {
		os.Exit(1)
	}
}
