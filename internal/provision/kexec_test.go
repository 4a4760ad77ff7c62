package provision

import (
	"encoding/json"
	"testing"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

func TestThePlanAsksForKexecIfTheNodeOrElseTheClusterDoes(t *testing.T) {
	for _, tt := range []struct {
		reason        string
		cluster, node v1alpha1.AfterInstall
		want          bool
	}{
		{"nobody says so", "", "", false},
		{"the cluster restarts", v1alpha1.AfterInstallRestart, "", false},
		{"the cluster", v1alpha1.AfterInstallKexec, "", true},
		{"the node against the cluster", v1alpha1.AfterInstallRestart, v1alpha1.AfterInstallKexec, true},
		{"the node not, against the cluster", v1alpha1.AfterInstallKexec, v1alpha1.AfterInstallRestart, false},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			s := newScene(t, openClaim())
			s.inventory.Clusters[0].Spec.PXE.AfterInstall = tt.cluster
			s.inventory.Nodes[0].Spec.Boot = &v1alpha1.BootSpec{AfterInstall: tt.node}
			doc, err := s.InitConfig(t.Context(), alphaMAC, leased)
			if err != nil {
				t.Fatal(err)
			}
			var got plan.Plan
			if err := json.Unmarshal(doc.Body, &got); err != nil {
				t.Fatal(err)
			}
			if got.Kexec != tt.want {
				t.Errorf("kexec is %v, want %v", got.Kexec, tt.want)
			}
		})
	}
}
