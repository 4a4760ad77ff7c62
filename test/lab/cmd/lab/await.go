//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// quiet is how long nothing may change before it is said that nothing does.
const quiet = 5 * time.Minute

// answerWithin is how long the cluster may take to say how it is, and mostPause how
// long it is left alone in between.
const (
	answerWithin = 2 * time.Minute
	mostPause    = 30 * time.Second
)

// awaitCommand watches the cluster until it is what a commit says, on the lab's
// network.
func awaitCommand() *cobra.Command {
	var patience time.Duration
	var commit, self string
	cmd := &cobra.Command{
		Use:    "await-inside NODE...",
		Hidden: true,
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), patience)
			defer cancel()
			config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
			if err != nil {
				return err
			}
			client, err := dynamic.NewForConfig(config)
			if err != nil {
				return err
			}
			w := wait{look: func(ctx context.Context) []fact { return look(ctx, client, commit, names) }, out: os.Stdout, lab: self, command: "up", now: time.Now}
			return w.run(ctx)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&patience, "patience", time.Hour, "")
	f.StringVar(&commit, "commit", "", "")
	f.StringVar(&self, "lab", "lab", "")
	return cmd
}

// fact is what is so of one thing that is waited for.
type fact struct {
	name, line string
	ready      bool
	check      string // arguments of `lab` that say more
}

// wait prints what changes until all is ready.
type wait struct {
	look    func(context.Context) []fact
	out     io.Writer
	lab     string // how a person calls this program
	command string // which of its commands goes on
	now     func() time.Time
}

func (w wait) run(ctx context.Context) error {
	said, began, changed := map[string]string{}, w.now(), w.now()
	for {
		looked := time.Now()
		facts := w.look(ctx)
		// A cluster that takes long to answer has other things to do.
		pause := max(time.Second, min(2*time.Since(looked), mostPause))
		var waiting []fact
		for _, f := range facts {
			if !f.ready {
				waiting = append(waiting, f)
			}
			if f.line != said[f.name] {
				said[f.name], changed = f.line, w.now()
				fmt.Fprintf(w.out, "%8s  %-16s %s\n", w.now().Sub(began).Round(time.Second), f.name, f.line)
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		if w.now().Sub(changed) >= quiet {
			fmt.Fprintf(w.out, "%8s  nothing new for %s. Still waiting for\n%s", w.now().Sub(began).Round(time.Second), quiet, w.explain(waiting))
			changed = w.now()
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("the patience is at its end; `%s %s` goes on. Still waiting for\n%s", w.lab, w.command, w.explain(waiting))
			}
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// explain says what was last seen of each, and what to look at.
func (w wait) explain(waiting []fact) string {
	var text strings.Builder
	for _, f := range waiting {
		fmt.Fprintf(&text, "  %s: %s\n    look at: %s %s\n", f.name, f.line, w.lab, f.check)
	}
	return text.String()
}

// look reads the cluster once.
func look(ctx context.Context, client dynamic.Interface, commit string, nodes []string) []fact {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var facts []fact
	list, err := client.Resource(v1alpha1.GroupVersion.WithResource("gitops")).List(ctx, metav1.ListOptions{})
	var all v1alpha1.GitOpsList
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(list.UnstructuredContent(), &all)
	}
	switch {
	case err != nil:
		facts = append(facts, fact{name: "GitOps", line: "cannot be read: " + err.Error(), check: "status"})
	case len(all.Items) == 0:
		facts = append(facts, fact{name: "GitOps", line: "is not there", check: "kubectl get gitops"})
	default:
		facts = append(facts, describeGitOps(&all.Items[0], commit)...)
	}
	for _, name := range nodes {
		node, err := client.Resource(v1alpha1.GroupVersion.WithResource("nodes")).Get(ctx, name, metav1.GetOptions{})
		f := fact{name: name, check: "kubectl describe rnode " + name}
		switch {
		case apierrors.IsNotFound(err):
			f.line = "committed, not in the cluster yet"
		case err != nil:
			f.line = "cannot be read: " + err.Error()
		default:
			f.line, f.ready = describeNode(node)
		}
		facts = append(facts, f)
	}
	return facts
}

// describeGitOps is what is so of Argo CD, the source and each layer. A layer is
// ready when it is at the commit.
func describeGitOps(g *v1alpha1.GitOps, commit string) []fact {
	facts := []fact{
		{name: "Argo CD", check: "kubectl -n " + g.Spec.ArgoCD.Namespace + " get pods"},
		{name: "source", check: "kubectl describe gitops " + g.Name},
	}
	for i, kind := range []string{v1alpha1.ConditionArgoCDReady, v1alpha1.ConditionSourceReady} {
		f := &facts[i]
		f.line = "the operator has not said anything"
		if c := meta.FindStatusCondition(g.Status.Conditions, kind); c != nil {
			f.ready = c.Status == metav1.ConditionTrue
			f.line = c.Reason + ": " + c.Message
		}
	}
	status := map[string]v1alpha1.LayerStatus{}
	for _, l := range g.Status.Layers {
		status[l.Name] = l
	}
	for _, l := range g.Spec.Layers {
		f := fact{name: "layer " + l.Name, check: "kubectl -n " + g.Spec.ArgoCD.Namespace + " describe applications"}
		s, known := status[l.Name]
		f.line = fmt.Sprintf("%d of %d ready", s.Ready, s.Total)
		switch {
		case !known || !s.Started:
			f.line = "not started"
			if s.Message != "" {
				f.line += ": " + s.Message
			}
		case s.Reason != "":
			f.line += ": " + s.Reason
			for _, a := range s.NotReady {
				f.line += fmt.Sprintf("; %s: %s %s", a.Name, a.Reason, a.Message)
			}
		case s.Revision != "" && !sameCommit(s.Revision, commit):
			f.line += fmt.Sprintf(" at commit %.12s, not yet at %.12s", s.Revision, commit)
		default:
			f.line += fmt.Sprintf(" at commit %.12s", s.Revision)
			f.ready = s.Ready > 0 && s.Revision != ""
		}
		facts = append(facts, f)
	}
	return facts
}

func sameCommit(a, b string) bool { return b == "" || a == b }

// trackedBy is the annotation by which Argo CD knows what it applied.
const trackedBy = "argocd.argoproj.io/tracking-id"

// describeNode is a Node in a line: its phase and what it is doing. A Node that did
// not come through Argo CD is not what is waited for.
func describeNode(node *unstructured.Unstructured) (line string, ready bool) {
	if node.GetAnnotations()[trackedBy] == "" {
		return "is in the cluster, but Argo CD has not applied it", false
	}
	phase, _, _ := unstructured.NestedString(node.Object, "status", "phase")
	conditions, _, _ := unstructured.NestedSlice(node.Object, "status", "conditions")
	for _, entry := range conditions {
		if c, ok := entry.(map[string]any); ok && c["type"] == v1alpha1.ConditionReady {
			return fmt.Sprintf("%-10s %v", phase, c["message"]), c["status"] == "True"
		}
	}
	return phase + " applied by Argo CD", false
}
