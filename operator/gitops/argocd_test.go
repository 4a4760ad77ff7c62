package gitops

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

func TestArgoCDIsInstalledWhenItIsGoneAndOtherwiseLeftAlone(t *testing.T) {
	running := func() argoFacts {
		f := argoFacts{version: "7.9.1", release: "7.9.1", defined: true, parts: map[string]bool{}}
		for _, p := range argoParts {
			f.parts[p] = true
		}
		return f
	}
	tests := []struct {
		reason                      string
		change                      func(*argoFacts)
		install, usable, handedOver bool
		status                      metav1.ConditionStatus
		why, says                   string
	}{
		{"nothing is there", func(f *argoFacts) { *f = argoFacts{version: "7.9.1"} },
			true, false, false, metav1.ConditionFalse, v1alpha1.ReasonArgoCDInstalling, "installing version 7.9.1"},
		{"it is being installed", func(f *argoFacts) { *f = argoFacts{version: "7.9.1", installing: true} },
			false, false, false, metav1.ConditionFalse, v1alpha1.ReasonArgoCDInstalling, "its definitions"},
		{"it cannot be installed", func(f *argoFacts) { *f = argoFacts{version: "7.9.1", failure: "no such chart"} },
			true, false, false, metav1.ConditionFalse, v1alpha1.ReasonArgoCDFailed, "no such chart"},
		{"the operator died while it installed it: all parts are there, and not all that they need", func(f *argoFacts) { f.release, f.unfinished = "", true },
			true, true, false, metav1.ConditionFalse, v1alpha1.ReasonArgoCDInstalling, "the rest of the chart"},
		{"it was not installed to its end, and manages itself all the same", func(f *argoFacts) { f.unfinished, f.managesItself = true, true },
			false, true, true, metav1.ConditionTrue, v1alpha1.ReasonArgoCDSelfManaged, ""},
		{"its pods start", func(f *argoFacts) { f.parts["repo-server"] = false },
			false, true, false, metav1.ConditionFalse, v1alpha1.ReasonArgoCDInstalling, "repo-server"},
		{"it runs", nil, false, true, false, metav1.ConditionTrue, v1alpha1.ReasonArgoCDRunning, "7.9.1"},
		{"another version is declared: it is not upgraded", func(f *argoFacts) { f.version = "8.0.0" },
			false, true, false, metav1.ConditionTrue, v1alpha1.ReasonArgoCDRunning, "7.9.1"},
		{"it manages itself", func(f *argoFacts) { f.managesItself = true },
			false, true, true, metav1.ConditionTrue, v1alpha1.ReasonArgoCDSelfManaged, ""},
		{"it managed itself before", func(f *argoFacts) { f.handedOver = true },
			false, true, true, metav1.ConditionTrue, v1alpha1.ReasonArgoCDSelfManaged, ""},
		{"it manages itself, and a part of it is sick: nothing is touched", func(f *argoFacts) { f.handedOver, f.parts["repo-server"] = true, false },
			false, true, true, metav1.ConditionFalse, v1alpha1.ReasonArgoCDNotReady, "repo-server"},
		{"it managed itself, and a part of it is gone: it is put back", func(f *argoFacts) { f.handedOver = true; delete(f.parts, "repo-server") },
			true, true, true, metav1.ConditionFalse, v1alpha1.ReasonArgoCDInstalling, "repairing"},
		{"another version is declared, and a part is gone: it is put back as it was", func(f *argoFacts) { f.handedOver, f.version = true, "8.0.0"; delete(f.parts, "repo-server") },
			true, true, true, metav1.ConditionFalse, v1alpha1.ReasonArgoCDInstalling, "repairing version 7.9.1"},
		{"its definitions are gone", func(f *argoFacts) { f.handedOver, f.defined = true, false },
			true, false, true, metav1.ConditionFalse, v1alpha1.ReasonArgoCDInstalling, "repairing"},
		{"it was told to delete what it does not see", func(f *argoFacts) { f.policy = "sync" },
			false, false, false, metav1.ConditionFalse, v1alpha1.ReasonArgoCDUnsafe, "override"},
		{"it was told so, and lets its sets say otherwise", func(f *argoFacts) { f.policy, f.override = "sync", "true" },
			false, true, false, metav1.ConditionTrue, v1alpha1.ReasonArgoCDRunning, ""},
		{"it was told to delete nothing", func(f *argoFacts) { f.policy = "create-update" },
			false, true, false, metav1.ConditionTrue, v1alpha1.ReasonArgoCDRunning, ""},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			f := running()
			if tc.change != nil {
				tc.change(&f)
			}
			v := judgeArgo(f)
			if v.install != tc.install || v.usable != tc.usable || v.handedOver != tc.handedOver {
				t.Errorf("install %t, usable %t, handed over %t; want %t, %t, %t", v.install, v.usable, v.handedOver, tc.install, tc.usable, tc.handedOver)
			}
			if v.ready.Status != tc.status || v.ready.Reason != tc.why || !strings.Contains(v.ready.Message, tc.says) || v.ready.Message == "" {
				t.Errorf("the condition is %+v; want %s %s: ...%s...", v.ready, tc.status, tc.why, tc.says)
			}
		})
	}
}

func TestAPersonsValuesGoBeforeOurs(t *testing.T) {
	values, err := argoValues(v1alpha1.ArgoCDSpec{Values: &runtime.RawExtension{Raw: json.RawMessage(
		`{"crds":{"keep":false},"configs":{"params":{"server.insecure":true}},"replicas":2}`)}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"replicas": float64(2),
		"crds":     map[string]any{"install": true, "keep": false},
		"configs": map[string]any{
			"cm":     map[string]any{"application.resourceTrackingMethod": "annotation"},
			"params": map[string]any{"server.insecure": true, "applicationsetcontroller.enable.policy.override": "true"},
		},
	}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("the values (-want +got):\n%s", diff)
	}
}
