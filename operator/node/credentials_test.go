package node

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

func TestATokenServesOneAttemptAndHasHalfOfItsLifeLeft(t *testing.T) {
	secret := func(name string, opened time.Time, left time.Duration) corev1.Secret {
		return corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{annotationOpened: opened.Format(time.RFC3339Nano)}},
			Data:       map[string][]byte{"token-id": []byte(name), "expiration": []byte(t0.Add(left).Format(time.RFC3339))},
		}
	}
	garbled := secret("garbled", t0, tokenLife)
	garbled.Data["expiration"] = []byte("soon")
	for _, c := range []struct {
		reason  string
		secrets []corev1.Secret
		keep    string
		drop    string
	}{
		{"none", nil, "", ""},
		{"a fresh one", []corev1.Secret{secret("a", t0, tokenLife)}, "a", ""},
		{"one with less than half of its life left", []corev1.Secret{secret("a", t0, tokenLife/2)}, "", "a"},
		{"one of an earlier attempt", []corev1.Secret{secret("a", t0.Add(-time.Hour), tokenLife)}, "", "a"},
		{"one that cannot be read", []corev1.Secret{garbled}, "", "garbled"},
		{"of two the one that lives longer", []corev1.Secret{secret("a", t0, 10*time.Minute), secret("b", t0, 12*time.Minute)}, "b", "a"},
		{"in the other order too", []corev1.Secret{secret("b", t0, 12*time.Minute), secret("a", t0, 10*time.Minute)}, "b", "a"},
	} {
		keep, drop := chooseToken(c.secrets, t0, t0)
		got := ""
		if keep != nil {
			got = keep.secret
		}
		if got != c.keep || strings.Join(drop, " ") != c.drop {
			t.Errorf("%s: keeps %q, drops %v; want %q, %q", c.reason, got, drop, c.keep, c.drop)
		}
	}
}

func TestOnlyWhatCameFromTheDeclarationIsTakenAway(t *testing.T) {
	for _, c := range []struct {
		reason  string
		applied string
		labels  map[string]v1alpha1.LabelValue
		taints  []v1alpha1.Taint
		has     map[string]string
		tainted []corev1.Taint

		changed      bool
		wantLabels   string
		wantTainting string
	}{
		{"nothing is declared, nothing is touched", "", nil, nil, map[string]string{"a": "1"}, []corev1.Taint{{Key: "k", Effect: "NoSchedule"}}, false, "a=1", "k:NoSchedule"},
		{"what k3s applied at the join is remembered", "", map[string]v1alpha1.LabelValue{"a": "1"}, nil, map[string]string{"a": "1"}, nil, true, "a=1", ""},
		{"what is so and remembered is at rest", `{"labels":{"a":"1"}}`, map[string]v1alpha1.LabelValue{"a": "1"}, nil, map[string]string{"a": "1"}, nil, false, "a=1", ""},
		{"what is declared no more goes", `{"labels":{"a":"1"},"taints":["k:NoSchedule"]}`, nil, nil, map[string]string{"a": "1", "b": "2"},
			[]corev1.Taint{{Key: "k", Effect: "NoSchedule"}, {Key: "k", Effect: "NoExecute"}}, true, "b=2", "k:NoExecute"},
		{"a value changes in its place", `{"taints":["k:NoSchedule"]}`, nil, []v1alpha1.Taint{{Key: "k", Value: "2", Effect: "NoSchedule"}}, nil,
			[]corev1.Taint{{Key: "k", Value: "1", Effect: "NoSchedule"}, {Key: "z", Effect: "NoSchedule"}}, true, "", "k=2:NoSchedule z:NoSchedule"},
		{"what a person took away comes back", `{"labels":{"a":"1"}}`, map[string]v1alpha1.LabelValue{"a": "1"}, nil, nil, nil, true, "a=1", ""},
		{"a record that cannot be read takes nothing away", `{`, nil, nil, map[string]string{"a": "1"}, nil, true, "a=1", ""},
	} {
		f := home()
		core := f.joined("w1", true)
		core.object.Labels, core.object.Spec.Taints = c.has, c.tainted
		if c.applied != "" {
			core.object.Annotations[v1alpha1.AnnotationApplied] = c.applied
		}
		m := f.m("w1")
		m.node.Spec.Labels, m.node.Spec.Taints = c.labels, c.taints
		shape, changed := shapeOf(m)
		var labels, taints []string
		for k, v := range shape.labels {
			labels = append(labels, k+"="+v)
		}
		for _, taint := range shape.taints {
			taints = append(taints, taint.ToString())
		}
		if changed != c.changed || strings.Join(labels, " ") != c.wantLabels || strings.Join(taints, " ") != c.wantTainting {
			t.Errorf("%s: changed %v, labels %v, taints %v", c.reason, changed, labels, taints)
		}
		if !changed {
			continue
		}
		core.object.Labels, core.object.Spec.Taints = shape.labels, shape.taints
		core.object.Annotations[v1alpha1.AnnotationApplied] = shape.applied
		if _, again := shapeOf(m); again {
			t.Errorf("%s: done again it changes", c.reason)
		}
	}
}
