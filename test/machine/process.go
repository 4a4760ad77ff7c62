//go:build linux

package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/test/machine/container"
)

// process is a container that runs.
type process struct {
	cmd   *exec.Cmd
	since time.Time
	words []string // files of the container's last words, the better one first
	done  chan struct{}
	end   time.Time // valid once done is closed
}

func (r *process) kill() { _ = r.cmd.Process.Kill() }

// stop asks the process to end, and kills it after the grace. It does not wait.
func (r *process) stop(grace time.Duration) {
	_ = r.cmd.Process.Signal(unix.SIGTERM)
	go func() {
		select {
		case <-r.done:
		case <-time.After(grace):
			r.kill()
		}
	}()
}

func (r *process) lived() time.Duration { return r.end.Sub(r.since) }

func (r *process) verdict() string { return r.cmd.ProcessState.String() }

func (r *process) signal() syscall.Signal {
	if status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return status.Signal()
	}
	return 0
}

// asks is what the process asked of the machine: reboot(2) in a PID namespace of
// its own ends that namespace's first process with SIGHUP to restart and SIGINT
// to turn off (reboot(2), "Behavior inside PID namespaces").
func (r *process) asks() error {
	switch r.signal() {
	case unix.SIGHUP:
		return errReboot
	case unix.SIGINT:
		return errPowerOff
	}
	return nil
}

// obey does to the machine what a process asked of it.
func (n *node) obey(asked error, end context.CancelCauseFunc) {
	if asked != nil {
		end(asked)
	}
}

func (r *process) terminated() *corev1.ContainerStateTerminated {
	out := &corev1.ContainerStateTerminated{ExitCode: int32(r.cmd.ProcessState.ExitCode()), Reason: "Completed",
		StartedAt: metav1.NewTime(r.since), FinishedAt: metav1.NewTime(r.end)}
	if s := r.signal(); s != 0 {
		out.Signal, out.ExitCode = int32(s), 128+int32(s)
	}
	if out.ExitCode != 0 {
		out.Reason = "Error"
	}
	for _, from := range r.words {
		if last, err := os.ReadFile(from); err == nil && len(last) > 0 {
			out.Message = string(last[max(0, len(last)-2048):])
			break
		}
		if out.ExitCode == 0 {
			break // only errors fall back to the log
		}
	}
	return out
}

// start runs a pod's container.
func (p *pods) start(ctx context.Context, object *corev1.Pod) (*process, error) {
	c := object.Spec.Containers[0]
	if len(object.Spec.InitContainers) > 0 || object.Spec.HostIPC {
		return nil, errors.New("the fake kubelet runs no init containers and gives no host's IPC")
	}
	dir := filepath.Join(p.n.disk(), "pods", string(object.UID))
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	spec, err := p.spec(ctx, object, dir)
	if err != nil {
		return nil, err
	}
	spec.Root, spec.HostPID = root, object.Spec.HostPID
	spec.Hostname = object.Name
	if object.Spec.HostNetwork {
		spec.Hostname = p.n.config.Name
	}
	message := filepath.Join(dir, "message")
	if err := os.WriteFile(message, nil, 0o666); err != nil {
		return nil, err
	}
	last := c.TerminationMessagePath
	if last == "" {
		last = corev1.TerminationMessagePathDefault
	}
	spec.Mounts = append(spec.Mounts, container.Mount{Source: message, Target: last})
	content, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "spec.json")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return nil, err
	}
	words := []string{message}
	if c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError {
		words = append(words, filepath.Join(p.n.logs(), object.Name+".log"))
	}
	log, err := os.OpenFile(filepath.Join(p.n.logs(), object.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	run := p.n.Host.Command(ctx, p.n.Programs.Container, path)
	run.SysProcAttr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC
	run.Env = nil
	run.Env = append(run.Env, "PATH="+os.Getenv("PATH"))
	run.Stdout, run.Stderr = log, log
	if err := run.Start(); err != nil {
		return nil, err
	}
	r := &process{cmd: run, since: time.Now(), words: words, done: make(chan struct{})}
	p.n.Log("%s: starts pod %s (%s)", p.n.Name, object.Name, strings.Join(c.Args, " "))
	go func() {
		_ = run.Wait() // its verdict is in the ProcessState
		r.end = time.Now()
		close(r.done)
	}()
	return r, nil
}

// spec is the container that a pod asks for. What the fake cannot give is an
// error.
func (p *pods) spec(ctx context.Context, object *corev1.Pod, dir string) (container.Spec, error) {
	c := object.Spec.Containers[0]
	out := container.Spec{UID: 65532, GID: 65532, Capabilities: container.Defaults} // the image's user
	out.Args = append(append([]string{}, c.Command...), c.Args...)
	if len(c.Command) == 0 {
		out.Args = append([]string{"/rhizome"}, c.Args...) // the image's entry point
	}
	out.Mounts = []container.Mount{
		{Source: p.n.Programs.Rhizome, Target: "/rhizome", ReadOnly: true},
		{Source: p.n.Programs.Boot, Target: "/boot", ReadOnly: true},
	}
	secure(&out, object, c)
	for _, e := range c.Env {
		value, err := p.env(object, e)
		if err != nil {
			return out, err
		}
		out.Env = append(out.Env, e.Name+"="+value)
	}
	if len(c.EnvFrom) > 0 {
		return out, errors.New("the fake kubelet knows no envFrom")
	}
	out.Env = append(out.Env, "KUBERNETES_SERVICE_HOST="+serviceAddress, "KUBERNETES_SERVICE_PORT=443", "HOSTNAME="+object.Name)
	return out, p.mounts(ctx, &out, object, c, dir)
}

// secure is the pod's security context, with the container's before it.
func secure(out *container.Spec, object *corev1.Pod, c corev1.Container) {
	if s := object.Spec.SecurityContext; s != nil {
		set(&out.UID, s.RunAsUser)
		set(&out.GID, s.RunAsGroup)
	}
	s := c.SecurityContext
	if s == nil {
		return
	}
	set(&out.UID, s.RunAsUser)
	set(&out.GID, s.RunAsGroup)
	out.ReadOnlyRoot = s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem
	out.Privileged = s.Privileged != nil && *s.Privileged
	out.NoNewPrivileges = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation
	if s.Capabilities == nil {
		return
	}
	var keep []string
	for _, name := range out.Capabilities {
		if !slices.Contains(s.Capabilities.Drop, "ALL") && !slices.Contains(s.Capabilities.Drop, corev1.Capability(name)) {
			keep = append(keep, name)
		}
	}
	for _, name := range s.Capabilities.Add {
		keep = append(keep, string(name))
	}
	out.Capabilities = keep
}

func set(to *int, from *int64) {
	if from != nil {
		*to = int(*from)
	}
}

func (p *pods) env(object *corev1.Pod, e corev1.EnvVar) (string, error) {
	if e.ValueFrom == nil {
		return e.Value, nil
	}
	if e.ValueFrom.FieldRef != nil {
		switch e.ValueFrom.FieldRef.FieldPath {
		case "metadata.name":
			return object.Name, nil
		case "metadata.namespace":
			return object.Namespace, nil
		case "metadata.uid":
			return string(object.UID), nil
		case "spec.nodeName":
			return object.Spec.NodeName, nil
		case "status.hostIP", "status.podIP":
			return p.n.config.IP, nil
		}
	}
	return "", fmt.Errorf("the fake kubelet does not know where the variable %s comes from", e.Name)
}

// mounts are the pod's volumes.
func (p *pods) mounts(ctx context.Context, out *container.Spec, object *corev1.Pod, c corev1.Container, dir string) error {
	for _, m := range c.VolumeMounts {
		at := slices.IndexFunc(object.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if at < 0 {
			return fmt.Errorf("the volume %s is not there", m.Name)
		}
		v := object.Spec.Volumes[at]
		mount := container.Mount{Target: m.MountPath, ReadOnly: m.ReadOnly}
		var err error
		switch {
		case v.HostPath != nil:
			mount.Source, err = p.hostPath(v.HostPath)
		case v.EmptyDir != nil:
			mount.Source = filepath.Join(dir, "volumes", v.Name)
			if err = os.MkdirAll(mount.Source, 0o777); err == nil {
				err = os.Chmod(mount.Source, 0o777)
			}
		case v.Projected != nil:
			mount.Source = filepath.Join(dir, "volumes", v.Name)
			mount.ReadOnly = true
			err = p.project(ctx, object, v.Projected, mount.Source)
		default:
			err = errors.New("the fake kubelet knows no volume of this kind")
		}
		if err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
		if m.SubPath != "" {
			mount.Source = filepath.Join(mount.Source, m.SubPath)
		}
		out.Mounts = append(out.Mounts, mount)
	}
	return nil
}

// hostPath is a path of the machine's own disk.
func (p *pods) hostPath(v *corev1.HostPathVolumeSource) (string, error) {
	path := p.n.path(v.Path)
	kind := corev1.HostPathUnset
	if v.Type != nil {
		kind = *v.Type
	}
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		return path, os.MkdirAll(path, 0o755)
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(path, os.O_CREATE, 0o644)
		if err != nil {
			return "", err
		}
		return path, f.Close()
	case corev1.HostPathUnset:
		// A container runtime makes a directory of what is not there.
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return path, os.MkdirAll(path, 0o755)
		}
		return path, nil
	}
	_, err := os.Stat(path)
	return path, err
}

// project writes the files of a service account, by the TokenRequest API with the
// kubelet's own rights.
func (p *pods) project(ctx context.Context, object *corev1.Pod, v *corev1.ProjectedVolumeSource, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	write := func(name string, content []byte) error {
		return os.WriteFile(filepath.Join(dir, name), content, 0o644)
	}
	for _, s := range v.Sources {
		var err error
		switch {
		case s.ServiceAccountToken != nil:
			request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
				ExpirationSeconds: s.ServiceAccountToken.ExpirationSeconds,
				BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: object.Name, UID: object.UID}}}
			if s.ServiceAccountToken.Audience != "" {
				request.Spec.Audiences = []string{s.ServiceAccountToken.Audience}
			}
			var token *authenticationv1.TokenRequest
			token, err = p.n.kube.CoreV1().ServiceAccounts(object.Namespace).CreateToken(ctx, object.Spec.ServiceAccountName, request, metav1.CreateOptions{})
			if err == nil {
				err = write(s.ServiceAccountToken.Path, []byte(token.Status.Token))
			}
		case s.ConfigMap != nil && s.ConfigMap.Name == "kube-root-ca.crt":
			var ca []byte
			if ca, err = os.ReadFile(p.n.agentFile("server-ca.crt")); err == nil {
				err = write("ca.crt", ca)
			}
		case s.DownwardAPI != nil:
			for _, f := range s.DownwardAPI.Items {
				var value string
				value, err = p.env(object, corev1.EnvVar{Name: f.Path, ValueFrom: &corev1.EnvVarSource{FieldRef: f.FieldRef}})
				if err == nil {
					err = write(f.Path, []byte(value))
				}
			}
		default:
			err = errors.New("the fake kubelet does not know this source")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// probe asks the readiness probe, as often as it says.
func (p *pods) probe(ctx context.Context, a *pod) {
	probe := a.object.Spec.Containers[0].ReadinessProbe
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.process == nil {
		return
	}
	if probe == nil || probe.HTTPGet == nil {
		a.ready = true
		return
	}
	every := time.Duration(max(probe.PeriodSeconds, 1)) * time.Second
	if !a.ready {
		every = time.Second
	}
	if time.Since(a.probed) < every {
		return
	}
	a.probed = time.Now()
	c, at := a.object.Spec.Containers[0], probe.HTTPGet
	port := at.Port.IntValue()
	for _, named := range c.Ports {
		if named.Name == at.Port.StrVal && at.Port.StrVal != "" {
			port = int(named.ContainerPort)
		}
	}
	host := p.n.config.IP
	if at.Host != "" {
		host = at.Host
	}
	url := strings.ToLower(string(at.Scheme)) + "://" + net.JoinHostPort(host, strconv.Itoa(port)) + "/" + strings.TrimPrefix(at.Path, "/")
	running := a.process
	go func() {
		ready := p.ask(ctx, url, time.Duration(max(probe.TimeoutSeconds, 1))*time.Second)
		p.mu.Lock()
		changed := a.process == running && a.ready != ready
		if changed {
			a.ready = ready
		}
		p.mu.Unlock()
		if changed {
			p.poke()
		}
	}()
}

func (p *pods) ask(ctx context.Context, url string, patience time.Duration) bool {
	client := p.n.unverified()
	client.Timeout = patience
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode >= 200 && answer.StatusCode < 400
}

// Kill ends the container of every running pod of a namespace, as
// a crash does, and tells how many there were.
func (m *Machine) Kill(namespace string) int {
	m.mu.Lock()
	p := m.pods
	m.mu.Unlock()
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	killed := 0
	for _, a := range p.active {
		if a.process != nil && a.object.Namespace == namespace {
			a.process.kill()
			killed++
		}
	}
	return killed
}
