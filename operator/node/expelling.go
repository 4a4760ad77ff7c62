package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/host"
	"github.com/rhizome-dev/rhizome/internal/hostpod"
	"github.com/rhizome-dev/rhizome/internal/k3s"
)

// That k3s says a member has left etcd is no proof, and a deleted core Node still
// less: the proof is etcd's own list, from a majority of its members. A pod on a
// server that stays reads it, with the certificate that the server keeps for that.
// Where k3s does not do what it was asked for, or the member is there again, the
// pod removes it. A list that cannot be read proves nothing, and holds what
// follows.

// EtcdMembersCommand is the command of the cluster's binary that it runs.
const EtcdMembersCommand = "etcd-members"

// etcdPatience is how long k3s may take to remove a member.
const etcdPatience = 2 * time.Minute

const etcdTLS = k3s.ServerTLSDir + "/etcd"

// askedEtcd is when k3s was asked to remove the member.
func (m member) askedEtcd() (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, m.object.Annotations[v1alpha1.AnnotationAskedEtcd])
	return t, err == nil
}

// overdue says whether k3s has had its time to remove the member.
func (m member) overdue(now time.Time) (due time.Time, over bool) {
	asked, known := m.askedEtcd()
	if !known {
		return time.Time{}, false
	}
	due = asked.Add(etcdPatience)
	return due, !now.Before(due)
}

// expelled says whether etcd's own list proved that the member is gone.
func (m member) expelled() bool { return m.object.Annotations[v1alpha1.AnnotationEtcdProof] != "" }

// etcdServer is a server that stays, and whose member of etcd answers.
func (f *fleet) etcdServer(m *machine) (string, bool) {
	for _, s := range f.otherServers(m) {
		if s.vote(f.now) == votes && !s.toldToLeave() {
			return s.name, true
		}
	}
	return "", false
}

// expelPod lists etcd's members on a server, without that of the machine.
func expelPod(m *machine, f *fleet, namespace, server string, asked time.Time) *corev1.Pod {
	p := hostpod.New(namespace, "etcd-"+m.node.Name+"-"+stamp(asked)+"-"+server, server, f.image, labelHost, m.node.Name)
	p.Spec.HostNetwork = true // etcd answers on the loopback
	directory := corev1.HostPathDirectory
	p.Spec.Volumes = []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{
		HostPath: &corev1.HostPathVolumeSource{Path: etcdTLS, Type: &directory}}}}
	c := &p.Spec.Containers[0]
	c.VolumeMounts = []corev1.VolumeMount{{Name: "tls", MountPath: etcdTLS, ReadOnly: true}}
	c.TerminationMessagePath = corev1.TerminationMessagePathDefault
	c.Args = []string{
		EtcdMembersCommand, "--remove=" + m.node.Name, "--address=" + string(m.node.Spec.Address), "--tls=" + etcdTLS,
		"--out=" + corev1.TerminationMessagePathDefault,
	}
	return p
}

// expel proves by etcd's own list that the member is gone, and sees to it.
func (d *deed) expel(ctx context.Context) error {
	asked, _ := d.m.core.askedEtcd()
	if gone, err := d.goneFromEtcd(ctx, asked); err != nil || !gone {
		return err
	}
	return d.patchCore(ctx, func(n *corev1.Node) {
		n.Annotations[v1alpha1.AnnotationEtcdProof] = clock(d.f.now)
		if n.Annotations[v1alpha1.AnnotationLeftEtcd] == "" {
			n.Annotations[v1alpha1.AnnotationLeftEtcd] = clock(d.f.now)
		}
	})
}

// expellable are the rules by which a server without a core Node is taken out of etcd,
// to be installed anew: those of a member that leaves for that.
var expellable = append(chain{noCluster, pausedPolicy, quarantined, noImage, oneAtATime, installationRuns, lastControlPlane, votersUnknown, quorum}, reinstallable...)

func noImage(_ *machine, f *fleet) (string, string, bool) {
	return v1alpha1.ReasonMemberRemains, "the operator does not know its own image, by which it would read etcd's list of members: set --pxe-image", f.image == ""
}

// expelOrphan: healing asks to install a server anew whose core Node is gone. First
// etcd's own list must prove that its member is, too. From then on it is installed as
// any declared machine is.
func (o *outcome) expelOrphan(m *machine, f *fleet) {
	if reason, message, violated := expellable.evaluate(m, f); violated {
		o.phase = v1alpha1.PhaseDeclared
		o.admit(metav1.ConditionFalse, reason, message)
		o.doing(v1alpha1.ReasonNotJoined, "held by "+reason+": "+message)
		return
	}
	const message = "its core Node is gone, and its member of etcd is to go before it is installed anew"
	o.phase = v1alpha1.PhaseRemoving
	o.admit(metav1.ConditionFalse, v1alpha1.ReasonMemberRemains, message)
	o.remove(metav1.ConditionTrue, v1alpha1.ReasonLeavingEtcd, message)
	o.doing(string(o.phase), message)
	o.do(actExpelOrphan)
}

// expelOrphan is expel for a server that has no core Node to note the proof on: the
// status forgets that core Node instead, and k3s the machine's password.
func (d *deed) expelOrphan(ctx context.Context) error {
	var asked time.Time
	if r := d.m.node.Status.Repair; r != nil && r.Intended != nil {
		asked = r.Intended.Time
	}
	if gone, err := d.goneFromEtcd(ctx, asked); err != nil || !gone {
		return err
	}
	if err := d.forget(ctx); err != nil {
		return err
	}
	message := "etcd's own list of members proves that it is gone; it settles"
	d.o.nodeRef = nil
	d.o.remove(metav1.ConditionTrue, v1alpha1.ReasonLeavingEtcd, message)
	d.o.doing(string(v1alpha1.PhaseRemoving), message)
	d.o.then = append(d.o.then, actTidy)
	d.look(d.EtcdSettle)
	return nil
}

// goneFromEtcd says whether etcd's own list proves that the machine is no member, and
// has its member removed. What is not proven is said.
func (d *deed) goneFromEtcd(ctx context.Context, asked time.Time) (bool, error) {
	server, ok := d.f.etcdServer(d.m)
	if !ok {
		d.unproven("no other server votes in etcd and answers")
		return false, nil
	}
	want := expelPod(d.m, d.f, d.PXENamespace, server, asked)
	done, why, err := d.hostPodDone(ctx, want)
	if err != nil {
		return false, err
	}
	if !done {
		d.unproven(why)
		return false, nil
	}
	p, err := d.podMade(ctx, want)
	if err != nil {
		return false, err
	}
	members, err := membersIn(p)
	if err == nil && slices.ContainsFunc(members, func(m host.Member) bool { return m.Is(d.m.node.Name, string(d.m.node.Spec.Address)) }) {
		err = fmt.Errorf("etcd lists it still")
	}
	if err != nil {
		d.unproven(err.Error())
		return false, d.deletePod(ctx, p.Name, p.UID)
	}
	return true, nil
}

// unproven says why nothing further is done yet.
func (d *deed) unproven(why string) {
	d.look(podAgain)
	message := fmt.Sprintf("%s; until etcd's list of members proves that it is gone, nothing further is done (%s)", d.o.removal.Message, why)
	d.o.remove(metav1.ConditionTrue, v1alpha1.ReasonLeavingEtcd, message)
	d.o.doing(string(v1alpha1.PhaseRemoving), message)
}

// membersIn is the list that the pod wrote. An empty one proves nothing.
func membersIn(p *corev1.Pod) ([]host.Member, error) {
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Terminated == nil {
			continue
		}
		var members []host.Member
		if err := json.Unmarshal([]byte(c.State.Terminated.Message), &members); err != nil {
			return nil, fmt.Errorf("the list that the pod %s wrote cannot be read: %w", p.Name, err)
		}
		if len(members) > 0 {
			return members, nil
		}
	}
	return nil, fmt.Errorf("the pod %s wrote no list", p.Name)
}
