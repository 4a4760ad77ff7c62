//go:build linux

package machine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// pods are the pods of one boot of a node. Those of the operator's image run, the
// others are said to.
type pods struct {
	n      *node
	store  cache.Store
	wake   chan struct{}
	done   chan struct{} // closed when nothing runs any more
	mu     sync.Mutex
	active map[types.UID]*pod
}

// pod is one pod as the node knows it.
type pod struct {
	object *corev1.Pod // as last seen
	real   bool

	// What follows is guarded by pods.mu.
	process   *process // nil: none runs
	starting  bool
	ended     *corev1.ContainerStateTerminated // of the last process
	restarts  int32
	startNext time.Time // when the next process may start
	backoff   time.Duration
	ready     bool
	probed    time.Time
	stopping  bool
	waiting   string // why it does not run; empty: it does
}

func newPods(n *node) *pods {
	return &pods{n: n, wake: make(chan struct{}, 1), done: make(chan struct{}), active: map[types.UID]*pod{}}
}

func (p *pods) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run follows the node's pods until ctx, which is the system, ends: then all that
// runs has been killed.
func (p *pods) run(ctx context.Context) {
	defer close(p.done)
	list := cache.NewListWatchFromClient(p.n.kube.CoreV1().RESTClient(), "pods", metav1.NamespaceAll,
		fields.OneTermEqualSelector("spec.nodeName", p.n.config.Name))
	event := func(any) { p.poke() }
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{ListerWatcher: list, ObjectType: &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{AddFunc: event, UpdateFunc: func(_, o any) { event(o) }, DeleteFunc: event}})
	p.store = store
	go controller.RunWithContext(ctx)
	for ctx.Err() == nil {
		p.n.whileFrozen(ctx)
		if controller.HasSynced() {
			p.sync(ctx)
		}
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-time.After(time.Second):
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.active {
		if a.process != nil {
			a.process.kill()
		}
	}
	for _, a := range p.active {
		if a.process != nil {
			<-a.process.done
		}
	}
}

func (p *pods) sync(ctx context.Context) {
	seen := map[types.UID]bool{}
	for _, o := range p.store.List() {
		object := o.(*corev1.Pod)
		seen[object.UID] = true
		p.mu.Lock()
		a := p.active[object.UID]
		if a == nil {
			a = &pod{real: p.n.Programs.runs(object)}
			p.active[object.UID] = a
			a.inherit(object)
		}
		a.object = object
		p.mu.Unlock()
		if err := p.syncPod(ctx, a); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			p.n.Log("%s: pod %s: %v", p.n.Name, object.Name, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, a := range p.active {
		if seen[uid] {
			continue
		}
		if a.process != nil {
			a.process.kill()
		}
		delete(p.active, uid)
	}
}

// runs tells whether a pod is one that is really run.
func (p Programs) runs(object *corev1.Pod) bool {
	if len(object.Spec.Containers) != 1 || p.Repository == "" {
		return false
	}
	image := object.Spec.Containers[0].Image
	image, _, _ = strings.Cut(image, "@")
	if at := strings.LastIndexByte(image, ':'); at > strings.LastIndexByte(image, '/') {
		image = image[:at]
	}
	return image == p.Repository
}

// inherit takes over a pod of an earlier boot: its containers are gone, and one
// that is never restarted has failed, as a kubelet says.
func (a *pod) inherit(object *corev1.Pod) {
	if len(object.Status.ContainerStatuses) == 0 {
		return
	}
	status := object.Status.ContainerStatuses[0]
	a.restarts = status.RestartCount
	if status.State.Running == nil {
		a.ended = status.State.Terminated
		return
	}
	a.restarts++
	if object.Spec.RestartPolicy == corev1.RestartPolicyNever {
		now := metav1.Now()
		a.ended = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "ContainerStatusUnknown",
			Message: "The container could not be located when the pod was terminated", FinishedAt: now}
		a.restarts--
	}
}

func (p *pods) syncPod(ctx context.Context, a *pod) error {
	switch {
	case a.object.DeletionTimestamp != nil:
		return p.remove(ctx, a)
	case a.object.Status.Phase == corev1.PodSucceeded || a.object.Status.Phase == corev1.PodFailed:
		return nil
	}
	if a.real {
		p.advance(ctx, a)
		p.probe(ctx, a)
	}
	return p.report(ctx, a)
}

// remove ends a deleted pod's process within its grace and lets the object go.
func (p *pods) remove(ctx context.Context, a *pod) error {
	p.mu.Lock()
	running, starting := a.process, a.starting
	first := !a.stopping
	a.stopping = true
	p.mu.Unlock()
	if starting {
		return nil
	}
	if running != nil {
		grace := 30 * time.Second
		if g := a.object.DeletionGracePeriodSeconds; g != nil {
			grace = time.Duration(*g) * time.Second
		}
		if first {
			running.stop(grace)
		}
		select {
		case <-running.done:
		default:
			return nil
		}
	}
	zero := int64(0)
	return p.n.kube.CoreV1().Pods(a.object.Namespace).Delete(ctx, a.object.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &a.object.UID}})
}

// advance starts the process, at first and when it has ended, as the restart
// policy says.
func (p *pods) advance(ctx context.Context, a *pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.process != nil || a.starting || a.stopping || time.Now().Before(a.startNext) || a.over() {
		return
	}
	a.starting = true
	object := a.object
	go func() {
		running, err := p.start(ctx, object)
		p.mu.Lock()
		a.starting = false
		if err != nil {
			a.waiting, a.startNext = err.Error(), time.Now().Add(3*time.Second)
			p.n.Log("%s: cannot start pod %s: %v", p.n.Name, object.Name, err)
			p.mu.Unlock()
			return
		}
		a.process, a.waiting, a.ended = running, "", nil
		if a.stopping {
			running.stop(0)
		}
		p.mu.Unlock()
		p.poke()
		<-running.done
		p.mu.Lock()
		a.process, a.ready, a.ended = nil, false, running.terminated()
		a.restarts++
		// The delay of a kubelet, shortened: it doubles with each end in a row.
		a.backoff = min(max(2*a.backoff, time.Second), 20*time.Second)
		if running.lived() > 2*time.Minute {
			a.backoff = time.Second
		}
		a.startNext = time.Now().Add(a.backoff)
		p.mu.Unlock()
		p.n.Log("%s: pod %s ended: %s", p.n.Name, object.Name, running.verdict())
		if ctx.Err() == nil {
			p.n.obey(running.asks(), p.n.end)
		}
		p.poke()
	}()
}

// over tells whether the pod has run for the last time.
func (a *pod) over() bool {
	if a.ended == nil {
		return false
	}
	switch a.object.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return true
	case corev1.RestartPolicyOnFailure:
		return a.ended.ExitCode == 0
	}
	return false
}

// report brings the pod's status up to date if it changed.
func (p *pods) report(ctx context.Context, a *pod) error {
	p.mu.Lock()
	want := p.status(a)
	p.mu.Unlock()
	if same(a.object.Status, want) {
		return nil
	}
	object := a.object.DeepCopy()
	object.Status = want
	_, err := p.n.kube.CoreV1().Pods(object.Namespace).UpdateStatus(ctx, object, metav1.UpdateOptions{})
	return err
}

func (p *pods) status(a *pod) corev1.PodStatus {
	out := *a.object.Status.DeepCopy()
	now := metav1.Now()
	if out.StartTime == nil {
		out.StartTime = &now
	}
	out.HostIP, out.PodIP = p.n.config.IP, p.n.config.IP
	out.HostIPs, out.PodIPs = []corev1.HostIP{{IP: out.HostIP}}, []corev1.PodIP{{IP: out.PodIP}}
	out.Phase = corev1.PodRunning
	out.ContainerStatuses = nil
	ready := !a.real
	for _, c := range a.object.Spec.Containers {
		s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, ImageID: c.Image, RestartCount: a.restarts, Ready: !a.real}
		started := *out.StartTime
		switch {
		case !a.real:
			s.State.Running = &corev1.ContainerStateRunning{StartedAt: started}
		case a.process != nil:
			s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(a.process.since.Truncate(time.Second))}
			s.Ready, ready = a.ready, a.ready
		case a.ended != nil && a.over():
			s.State.Terminated = a.ended
			s.RestartCount = max(a.restarts-1, 0)
			out.Phase = corev1.PodSucceeded
			if a.ended.ExitCode != 0 {
				out.Phase = corev1.PodFailed
			}
		case a.ended != nil:
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: a.ended.Message}
			s.LastTerminationState.Terminated = a.ended
		default:
			out.Phase = corev1.PodPending
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating", Message: a.waiting}
		}
		running := s.State.Running != nil
		s.Started = &running
		out.ContainerStatuses = append(out.ContainerStatuses, s)
	}
	for kind, is := range map[corev1.PodConditionType]bool{corev1.PodScheduled: true, corev1.PodInitialized: true,
		corev1.ContainersReady: ready, corev1.PodReady: ready} {
		setCondition(&out.Conditions, kind, is, now)
	}
	return out
}

func setCondition(conditions *[]corev1.PodCondition, kind corev1.PodConditionType, is bool, now metav1.Time) {
	status := corev1.ConditionFalse
	if is {
		status = corev1.ConditionTrue
	}
	for i := range *conditions {
		c := &(*conditions)[i]
		if c.Type == kind {
			if c.Status != status {
				c.Status, c.LastTransitionTime = status, now
			}
			return
		}
	}
	*conditions = append(*conditions, corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: now})
}

// same compares what a status says, whatever the order of its conditions.
func same(a, b corev1.PodStatus) bool {
	say := func(s corev1.PodStatus) string {
		said := []string{string(s.Phase), s.PodIP}
		for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
			for _, c := range s.Conditions {
				if c.Type == kind {
					said = append(said, string(kind), string(c.Status))
				}
			}
		}
		for _, c := range s.ContainerStatuses {
			state := "waiting"
			switch {
			case c.State.Running != nil:
				state = "running"
			case c.State.Terminated != nil:
				state = fmt.Sprint("terminated ", c.State.Terminated.ExitCode)
			case c.State.Waiting != nil:
				state += c.State.Waiting.Reason + c.State.Waiting.Message
			}
			said = append(said, c.Name, state, fmt.Sprint(c.Ready, c.RestartCount))
		}
		return strings.Join(said, "|")
	}
	return say(a) == say(b)
}
