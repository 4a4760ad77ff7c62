package operator_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/flags"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/operator"
)

func founding() *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: names.FoundingSecret},
		Type:       names.FoundingType,
		Data: map[string][]byte{
			names.KeyServerToken: []byte("K10x::server:x"), names.KeyAgentToken: []byte("K10x::node:x"),
			names.KeyNodeKey: []byte(strings.Repeat("k", 64)), names.KeyServerAuthority: []byte("pem"),
		},
	}
}

// member makes a core Node that is Ready.
func (w *world) member(t *testing.T, name, address string) *corev1.Node {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelOSStable: "linux", corev1.LabelHostname: name}}}
	w.make(t, n)
	w.kubelet(t, n, address, corev1.ConditionTrue)
	return n
}

// withoutPXE removes what the operator made in the tests' shared API server.
func (w *world) withoutPXE(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, o := range []client.Object{
			&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: names.DefaultPXENamespace, Name: names.PXEDeployment}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: names.DefaultPXENamespace, Name: names.ServingSecret}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: names.PXECASecret}},
		} {
			if err := client.IgnoreNotFound(w.Delete(ctx, o)); err != nil {
				t.Error(err)
			}
		}
	})
}

func (w *world) pxeDeployment(t *testing.T) *appsv1.Deployment {
	t.Helper()
	var d appsv1.Deployment
	err := w.Get(t.Context(), client.ObjectKey{Namespace: names.DefaultPXENamespace, Name: names.PXEDeployment}, &d)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return &d
}

func (w *world) awaitReplicas(t *testing.T, want int32) *appsv1.Deployment {
	t.Helper()
	var d *appsv1.Deployment
	eventually(t, "the PXE pods' Deployment", func() string {
		if d = w.pxeDeployment(t); d == nil {
			return "there is none"
		}
		if *d.Spec.Replicas != want {
			return "another number of replicas"
		}
		return ""
	})
	return d
}

// awaitCertificate waits until the serving certificate covers the addresses, and no
// others.
func (w *world) awaitCertificate(t *testing.T, want ...string) *corev1.Secret {
	t.Helper()
	var s corev1.Secret
	eventually(t, "the serving certificate", func() string {
		if err := w.Get(t.Context(), client.ObjectKey{Namespace: names.DefaultPXENamespace, Name: names.ServingSecret}, &s); err != nil {
			return err.Error()
		}
		block, _ := pem.Decode(s.Data["tls.crt"])
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err.Error()
		}
		var got []string
		for _, ip := range leaf.IPAddresses {
			got = append(got, ip.String())
		}
		if !slices.Equal(got, want) {
			return "it covers " + strings.Join(got, ", ")
		}
		return ""
	})
	return &s
}

// eventsOf are the reasons of the events on Clusters, each once.
func (w *world) eventsOf(t *testing.T) []string {
	t.Helper()
	var events corev1.EventList
	if err := w.List(t.Context(), &events, client.InNamespace(metav1.NamespaceDefault)); err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range events.Items {
		if e.InvolvedObject.Kind == "Cluster" && !slices.Contains(told, e.Reason) {
			told = append(told, e.Reason)
		}
	}
	slices.Sort(told)
	return told
}

// TestPXEPodsRunWhileAMachineWaits goes through the life of the PXE pods. No
// controller makes pods of Deployments here, so the test plays the pod: it makes the
// Pod and says in the Cluster's status what the pod would.
func TestPXEPodsRunWhileAMachineWaits(t *testing.T) {
	w := newWorld(t)
	w.withoutPXE(t)
	var ahead atomic.Int64
	options := func(o *operator.Options) {
		o.PXEImage = "ghcr.io/rhizome-dev/rhizome:test"
		o.Archives = flags.Archives{{Name: "operator.oci.tar", SHA256: strings.Repeat("0", 64)}}
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}
	log, stop := w.run(t, options)
	w.member(t, "alpha", "192.168.1.10")
	beta := machine("beta", "52:54:00:00:00:02", "192.168.1.11")
	beta.Spec.Role = v1alpha1.Worker
	w.make(t, debian(), cluster("home"), machine("alpha", "52:54:00:00:00:01", "192.168.1.10"))
	w.awaitNode(t, "alpha", v1alpha1.PhaseReady, "True Matched", "True MemberReady")

	// Without the cluster's tokens: said, and no trouble while no machine waits.
	home := w.awaitCluster(t, "home", map[string]string{"Ready": "True ClusterReady", "PXEReady": "False NotConfigured", "MembersDeclared": "True AllDeclared"})
	if c := home.Status.Conditions; !strings.Contains(message(c, "PXEReady"), "rhizome-founding") || !strings.Contains(message(c, "PXEReady"), "seed") {
		t.Errorf("the condition does not say what is missing and what to do: %s", message(c, "PXEReady"))
	}
	w.make(t, beta)
	w.awaitCluster(t, "home", map[string]string{"Ready": "False NotConfigured"})
	if d := w.pxeDeployment(t); d != nil {
		t.Fatal("PXE pods run without the cluster's tokens")
	}

	// The seed hands them over.
	w.make(t, founding())
	d := w.awaitReplicas(t, 1)
	first := w.awaitCertificate(t, "192.168.1.10")
	w.awaitCluster(t, "home", map[string]string{"Ready": "False PodsStarting", "PXEReady": "False PodsStarting"})
	if args := d.Spec.Template.Spec.Containers[0].Args; !slices.Contains(args, "--image-archive=operator.oci.tar:"+strings.Repeat("0", 64)) {
		t.Errorf("the pod's arguments are %v", args)
	}
	t.Run("the API server takes its pod, and no stricter namespace does", func(t *testing.T) {
		try := func(namespace string) error {
			return w.Create(t.Context(), &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "try", Labels: d.Spec.Template.Labels}, Spec: d.Spec.Template.Spec,
			}, client.DryRunAll)
		}
		if err := try(names.DefaultPXENamespace); err != nil && !strings.Contains(err.Error(), "kube-root-ca") {
			t.Errorf("a pod of it: %v", err)
		}
	})

	// The pod starts and says that it is ready.
	pod := w.play(t, d, "rhizome-pxe-1", "alpha")
	w.say(t, "home", func(s *v1alpha1.ClusterStatus) {
		s.PXE = []v1alpha1.PXEPod{{Node: "alpha", Pod: pod.Name, Address: "192.168.1.10", Ready: true}}
	})
	w.awaitCluster(t, "home", map[string]string{"Ready": "True ClusterReady", "PXEReady": "True PodsReady"})

	// A second member: its address is covered, and a second pod is wanted.
	joined := w.member(t, "beta", "192.168.1.11")
	w.kubelet(t, joined, "192.168.1.11", corev1.ConditionFalse)
	w.awaitCertificate(t, "192.168.1.10", "192.168.1.11")
	gamma := w.member(t, "gamma", "192.168.1.12")
	w.awaitReplicas(t, 2)
	w.awaitCluster(t, "home", map[string]string{"Ready": "True ClusterReady", "PXEReady": "False PodsStarting", "MembersDeclared": "False UndeclaredMembers"})
	if err := w.Delete(t.Context(), gamma); err != nil {
		t.Fatal(err)
	}
	w.awaitReplicas(t, 1)

	t.Run("a stranger is told of once", func(t *testing.T) {
		seen := metav1.NewTime(time.Now().Truncate(time.Second))
		w.say(t, "home", func(s *v1alpha1.ClusterStatus) {
			s.Discovered = []v1alpha1.DiscoveredMachine{{MAC: "52:54:00:00:00:99", Firmware: "UEFI", FirstSeen: seen, LastSeen: seen}}
		})
		eventually(t, "the event", func() string {
			if told := w.eventsOf(t); !slices.Contains(told, "Discovered") {
				return strings.Join(told, ", ")
			}
			return ""
		})
	})

	t.Run("the entry of a pod that is gone is dropped, and nothing else of the status", func(t *testing.T) {
		zero := int64(0)
		if err := w.Delete(t.Context(), pod, &client.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "status.pxe", func() string {
			if home = w.awaitCluster(t, "home", nil); len(home.Status.PXE) != 0 {
				return "it still is there"
			}
			return ""
		})
		if len(home.Status.Discovered) != 1 || home.Status.Endpoint == "" {
			t.Errorf("the rest of the status is gone: %+v", home.Status)
		}
	})

	// Another replica of the operator goes on with what is there.
	running := log.String()
	stop()
	for line := range strings.Lines(running) {
		if strings.Contains(line, "forbidden") || strings.Contains(line, "level=ERROR") {
			t.Error(line)
		}
	}
	before := w.awaitCertificate(t, "192.168.1.10", "192.168.1.11")
	log, stop = w.run(t, options)

	// Nobody waits any more.
	w.kubelet(t, joined, "192.168.1.11", corev1.ConditionTrue)
	w.awaitCluster(t, "home", map[string]string{"Ready": "True ClusterReady", "PXEReady": "True NotNeeded"})
	eventually(t, "since when nobody waits", func() string {
		// How many are kept: beta may have been a member for a moment before it was known
		// that it no longer waits.
		if d = w.pxeDeployment(t); d == nil || *d.Spec.Replicas == 0 {
			return "the pods do not stay for a while"
		}
		if d.Annotations["rhizome.dev/idle-since"] == "" {
			return "it is not written down"
		}
		return ""
	})
	ahead.Store(int64(11 * time.Minute))
	w.touch(t, "home")
	w.awaitReplicas(t, 0)
	w.awaitCluster(t, "home", map[string]string{"Ready": "True ClusterReady", "PXEReady": "True NotNeeded"})

	after := w.awaitCertificate(t, "192.168.1.10", "192.168.1.11")
	if after.ResourceVersion != before.ResourceVersion || after.UID != first.UID || string(after.Data["ca.crt"]) != string(first.Data["ca.crt"]) {
		t.Error("the certificate was made anew without need, or its authority is another")
	}
	eventually(t, "the events", func() string {
		told := w.eventsOf(t)
		for _, want := range []string{"Discovered", "PXEAuthorityMade", "PXECertificateMade", "PXEPodGone", "PXEStarted", "PXEStopped"} {
			if !slices.Contains(told, want) {
				return want + " was not told: " + strings.Join(told, ", ")
			}
		}
		return ""
	})
	running = log.String()
	stop()
	for line := range strings.Lines(running) {
		if strings.Contains(line, "forbidden") || strings.Contains(line, "level=ERROR") {
			t.Error(line)
		}
	}
}

// play makes a pod of the Deployment, running and ready.
func (w *world) play(t *testing.T, d *appsv1.Deployment, name, node string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: name, Labels: d.Spec.Template.Labels},
		Spec:       *d.Spec.Template.Spec.DeepCopy(),
	}
	pod.Spec.NodeName = node
	// The account's token is mounted from what a controller would have made.
	pod.Spec.AutomountServiceAccountToken = new(bool)
	w.make(t, pod)
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if err := w.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// say changes the status of a Cluster as a PXE pod does.
func (w *world) say(t *testing.T, name string, change func(*v1alpha1.ClusterStatus)) {
	t.Helper()
	eventually(t, "the status of Cluster "+name, func() string {
		var c v1alpha1.Cluster
		if err := w.Get(t.Context(), client.ObjectKey{Name: name}, &c); err != nil {
			return err.Error()
		}
		base := c.DeepCopy()
		change(&c.Status)
		patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
		if err := w.Status().Patch(t.Context(), &c, patch, client.FieldOwner("rhizome-pxe")); err != nil {
			return err.Error()
		}
		return ""
	})
}

// touch brings the controller back before its time.
func (w *world) touch(t *testing.T, name string) {
	t.Helper()
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"touched":"yes"}}}`))
	if err := w.Patch(t.Context(), &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: name}}, patch); err != nil {
		t.Fatal(err)
	}
}

func message(conditions []metav1.Condition, kind string) string {
	for _, c := range conditions {
		if c.Type == kind {
			return c.Message
		}
	}
	return ""
}

// TestThePXEPodsMayDoNoMore asks the API server what the service account of the PXE
// pods may do, which listen to everything on the machines' network.
func TestThePXEPodsMayDoNoMore(t *testing.T) {
	w := newWorld(t)
	var account corev1.ServiceAccount
	if err := w.Get(t.Context(), client.ObjectKey{Namespace: names.DefaultPXENamespace, Name: names.PXEDeployment}, &account); err != nil {
		t.Fatal(err)
	}
	pods, err := client.New(w.asIn(t, names.DefaultPXENamespace, names.PXEDeployment), client.Options{Scheme: w.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	may := asker(t, pods)
	for _, yes := range [][6]string{
		{"watch", "rhizome.dev", "nodes", "", "", ""},
		{"list", "rhizome.dev", "operatingsystems", "", "", ""},
		{"patch", "rhizome.dev", "nodes", "status", "", "alpha"},
		{"patch", "rhizome.dev", "clusters", "status", "", "home"},
		{"update", "", "secrets", "", names.DefaultPXENamespace, "claim-alpha"},
	} {
		if !may(yes[0], yes[1], yes[2], yes[3], yes[4], yes[5]) {
			t.Errorf("it may not %v", yes)
		}
	}
	for _, no := range [][6]string{
		{"create", "", "secrets", "", names.DefaultPXENamespace, ""},
		{"delete", "", "secrets", "", names.DefaultPXENamespace, "claim-alpha"},
		{"get", "", "secrets", "", namespace, names.FoundingSecret},
		{"get", "", "secrets", "", namespace, names.PXECASecret},
		{"get", "", "secrets", "", "kube-system", ""},
		{"patch", "rhizome.dev", "nodes", "", "", "alpha"},
		{"delete", "rhizome.dev", "nodes", "", "", "alpha"},
		{"get", "", "nodes", "", "", ""},
		{"list", "", "pods", "", names.DefaultPXENamespace, ""},
		{"create", "", "pods", "", names.DefaultPXENamespace, ""},
		{"create", "", "events", "", "default", ""},
	} {
		if may(no[0], no[1], no[2], no[3], no[4], no[5]) {
			t.Errorf("it may %v", no)
		}
	}

	// Of a status they change what they report.
	w.make(t, debian(), cluster("home"), machine("alpha", "52:54:00:00:00:01", "192.168.1.10"))
	for _, c := range []struct {
		object client.Object
		status string
		may    bool
	}{
		{&v1alpha1.Node{}, `"boot": {"stage": "DHCP"}`, true},
		{&v1alpha1.Node{}, `"reach": [{"from": "beta", "at": "2026-03-01T12:00:00Z", "answer": "Nothing"}]`, true},
		{&v1alpha1.Node{}, `"boot": null`, true},
		{&v1alpha1.Node{}, `"phase": "Failed"`, false},
		{&v1alpha1.Node{}, `"boot": {"stage": "Config"}, "conditions": [{"type": "Removal", "status": "True", "reason": "Draining", "message": "", "lastTransitionTime": "2026-03-01T12:00:00Z"}]`, false},
		{&v1alpha1.Node{}, `"repair": {"reinstall": "now"}`, false},
		{&v1alpha1.Cluster{}, `"pxe": [{"node": "alpha", "pod": "pxe-1", "address": "192.168.1.10", "ready": true}]`, true},
		{&v1alpha1.Cluster{}, `"discovered": [{"mac": "52:54:00:00:00:99", "firstSeen": "2026-03-01T12:00:00Z", "lastSeen": "2026-03-01T12:00:00Z"}]`, true},
		{&v1alpha1.Cluster{}, `"endpoint": "https://192.168.1.66:6443"`, false},
	} {
		c.object.SetName("home")
		if _, ok := c.object.(*v1alpha1.Node); ok {
			c.object.SetName("alpha")
		}
		eventually(t, c.status, func() string {
			// The API server takes a moment until it knows the policies.
			err := pods.Status().Patch(t.Context(), c.object.DeepCopyObject().(client.Object), client.RawPatch("application/merge-patch+json", []byte(`{"status": {`+c.status+`}}`)))
			switch {
			case c.may && err != nil:
				return err.Error()
			case !c.may && err == nil:
				return "it may"
			case !c.may && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "PXE pods change only status.")):
				return err.Error()
			}
			return ""
		})
	}
	// Nor do they take away what others wrote.
	if err := w.Status().Patch(t.Context(), &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}}, client.RawPatch("application/merge-patch+json", []byte(`{"status": {"phase": "Ready"}}`))); err != nil {
		t.Fatal(err)
	}
	err = pods.Status().Patch(t.Context(), &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}}, client.RawPatch("application/merge-patch+json", []byte(`{"status": {"phase": null}}`)))
	if !apierrors.IsForbidden(err) {
		t.Errorf("a phase is taken away: %v", err)
	}
}
