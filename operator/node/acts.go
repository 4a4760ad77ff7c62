package node

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// deed is the doing of one outcome, and what came of it.
type deed struct {
	*reconciler
	m *machine
	f *fleet
	o *outcome
	// opened is the claim that was opened; closed that the machine's was.
	opened *provision.Claim
	closed bool
	// released says that the Node's finalizer is gone, and the Node with it.
	released bool
}

// effects do the acts. Each may be done again.
var effects = map[act]func(*deed, context.Context) error{
	actHold:        (*deed).hold,
	actRelease:     (*deed).release,
	actOpen:        (*deed).open,
	actClose:       (*deed).close,
	actOffer:       (*deed).offerCredentials,
	actRevoke:      func(d *deed, ctx context.Context) error { return d.revoke(ctx, d.m.node.Name) },
	actBegin:       func(*deed, context.Context) error { return nil },
	actCordon:      (*deed).cordon,
	actUncordon:    (*deed).uncordon,
	actDrain:       (*deed).drain,
	actBar:         (*deed).bar,
	actLift:        (*deed).lift,
	actLeaveEtcd:   (*deed).leaveEtcd,
	actMarkLeft:    (*deed).markLeft,
	actExpel:       (*deed).expel,
	actExpelOrphan: (*deed).expelOrphan,
	actDeleteCore:  (*deed).deleteCore,
	actForget:      (*deed).forget,
	actShape:       (*deed).shape,
	actAdopt:       (*deed).adopt,
	actReboot:      (*deed).reboot,
	actTidy:        (*deed).tidy,
}

func (d *deed) do(ctx context.Context, acts []act) error {
	for _, a := range acts {
		if err := effects[a](d, ctx); err != nil {
			return err
		}
	}
	return nil
}

// look remembers when to look again.
func (d *deed) look(after time.Duration) { d.o.lookAt(d.f.now.Add(after)) }

// finalize changes the Node's finalizers, if nothing else has changed.
func (d *deed) finalize(ctx context.Context, change func(client.Object, string) bool) error {
	n := d.m.node.DeepCopy()
	if !change(n, v1alpha1.FinalizerMember) {
		return nil
	}
	patch := client.MergeFromWithOptions(d.m.node, client.MergeFromWithOptimisticLock{})
	if err := d.Live.Patch(ctx, n, patch); err != nil {
		return fmt.Errorf("cannot change the finalizer of Node/%s: %w", n.Name, err)
	}
	d.m.node = n
	return nil
}

func (d *deed) hold(ctx context.Context) error {
	if d.m.isLeaving() {
		return nil
	}
	return d.finalize(ctx, controllerutil.AddFinalizer)
}

func (d *deed) release(ctx context.Context) error {
	if err := d.finalize(ctx, controllerutil.RemoveFinalizer); client.IgnoreNotFound(err) != nil {
		return err
	}
	d.released = true
	return nil
}

func (d *deed) open(ctx context.Context) error {
	c, err := provision.OpenClaim(d.f.cluster, d.m.node, provision.Join, d.o.attempt, "", d.Now)
	if err != nil {
		return fmt.Errorf("cannot open a claim: %w", err)
	}
	if err := d.store.Open(ctx, d.m.node, c); err != nil {
		return err
	}
	d.opened, d.closed = &c, false
	d.traces[d.m.node.Name] = true
	d.o.lookAt(c.Expires)
	return nil
}

func (d *deed) close(ctx context.Context) error {
	if err := d.store.Close(ctx, d.m.node.Name); err != nil {
		return err
	}
	d.closed = true
	return nil
}

func (d *deed) offerCredentials(ctx context.Context) error {
	again, err := d.offer(ctx, d.m, d.f)
	d.o.lookAt(again)
	return err
}

// deleteCore deletes the core Node that was decided about, and no later one of the
// name.
func (d *deed) deleteCore(ctx context.Context) error {
	if d.m.core == nil {
		return nil
	}
	uid := types.UID(d.m.core.uid)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: d.m.core.name}}
	if err := d.Live.Delete(ctx, n, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot delete the core Node %s: %w", n.Name, err)
	}
	return nil
}

// forget deletes the password by which k3s knew the machine: with it, another
// installation of the name would be refused.
// (https://docs.k3s.io/architecture#how-agent-node-registration-works)
func (d *deed) forget(ctx context.Context) error {
	return d.deleteSecret(ctx, d.m.node.Name+".node-password.k3s")
}
