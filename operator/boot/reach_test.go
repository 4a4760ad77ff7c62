package boot

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
)

func TestWhoAnswersForAMember(t *testing.T) {
	listen := func(t *testing.T, serve func(net.Conn)) netip.AddrPort {
		t.Helper()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				if serve != nil {
					serve(c)
				}
				t.Cleanup(func() { _ = c.Close() })
			}
		}()
		return netip.MustParseAddrPort(l.Addr().String())
	}
	kubelet := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(kubelet.Close)
	strict := httptest.NewUnstartedServer(http.NotFoundHandler())
	strict.TLS = &tls.Config{MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.CurveID(0x11ff)}}
	strict.StartTLS()
	t.Cleanup(strict.Close)
	closed := listen(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unused := netip.MustParseAddrPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		reason  string
		address netip.AddrPort
		want    v1alpha1.ReachAnswer
	}{
		{"a kubelet", netip.MustParseAddrPort(kubelet.Listener.Addr().String()), v1alpha1.AnswerKubelet},
		{"a kubelet that does not like us", netip.MustParseAddrPort(strict.Listener.Addr().String()), v1alpha1.AnswerKubelet},
		{"a process that is stopped: its kernel accepts, and nothing is said", closed, v1alpha1.AnswerMachine},
		{"something else", listen(t, func(c net.Conn) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH")) }), v1alpha1.AnswerKubelet},
		{"one that hangs up", listen(t, func(c net.Conn) { _ = c.Close() }), v1alpha1.AnswerMachine},
		{"nobody listens", unused, v1alpha1.AnswerMachine},
		{"no machine is there", netip.MustParseAddrPort("192.0.2.1:10250"), v1alpha1.AnswerNothing},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			t.Parallel()
			if got, message := tryKubelet(t.Context(), tc.address); got != tc.want {
				t.Errorf("%s (%s), want %s", got, message, tc.want)
			}
		})
	}
}

func TestAnswersAreKeptInTheirPlaces(t *testing.T) {
	at := func(s int) metav1.Time { return metav1.NewTime(time.Unix(1000+int64(s), 0)) }
	one := func(from string, s int, answer v1alpha1.ReachAnswer) v1alpha1.Reach {
		return v1alpha1.Reach{From: from, At: at(s), Answer: answer}
	}
	const nothing, kubelet = v1alpha1.AnswerNothing, v1alpha1.AnswerKubelet
	full := make([]v1alpha1.Reach, 0, maxReach)
	for i := range maxReach {
		full = append(full, one(fmt.Sprintf("p%d", i), 100-i, nothing))
	}
	mine := func(s int, answer v1alpha1.ReachAnswer) *v1alpha1.Reach { r := one("me", s, answer); return &r }
	tests := []struct {
		reason  string
		current []v1alpha1.Reach
		mine    *v1alpha1.Reach
		want    []v1alpha1.Reach
		changed bool
	}{
		{"the first", nil, mine(0, nothing), []v1alpha1.Reach{one("me", 0, nothing)}, true},
		{"beside another's", []v1alpha1.Reach{one("you", 0, nothing)}, mine(0, nothing), []v1alpha1.Reach{one("you", 0, nothing), one("me", 0, nothing)}, true},
		{"the same within a minute", []v1alpha1.Reach{one("me", 0, nothing)}, mine(59, nothing), []v1alpha1.Reach{one("me", 0, nothing)}, false},
		{"the same after a minute", []v1alpha1.Reach{one("me", 0, nothing)}, mine(60, nothing), []v1alpha1.Reach{one("me", 60, nothing)}, true},
		{"another answer at once", []v1alpha1.Reach{one("me", 0, nothing)}, mine(1, kubelet), []v1alpha1.Reach{one("me", 1, kubelet)}, true},
		{"it is Ready again", []v1alpha1.Reach{one("me", 0, nothing), one("you", 0, nothing)}, nil, []v1alpha1.Reach{one("you", 0, nothing)}, true},
		{"it is Ready again, and there was none of ours", []v1alpha1.Reach{one("you", 0, nothing)}, nil, []v1alpha1.Reach{one("you", 0, nothing)}, false},
		{"no room: the oldest goes", full, mine(200, nothing), append(append([]v1alpha1.Reach{}, full[:maxReach-1]...), one("me", 200, nothing)), true},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			got, changed := reached(tc.current, "me", tc.mine, time.Minute)
			if diff := cmp.Diff(tc.want, got); diff != "" || changed != tc.changed {
				t.Errorf("changed %v, answers (-want +got):\n%s", changed, diff)
			}
		})
	}
}

func TestOnlyMembersThatAreNotReadyAreTried(t *testing.T) {
	node := func(name string, member, ready bool) v1alpha1.Node {
		n := v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if member {
			n.Status.NodeRef = &v1alpha1.CoreNodeReference{Name: name, UID: "1"}
		}
		if ready {
			n.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}}
		}
		return n
	}
	s := &snapshot{inventory: inventory.Inventory{Nodes: []v1alpha1.Node{
		node("me", true, false), node("new", false, false), node("sick", true, false), node("well", true, true),
	}}}
	var got []string
	for _, n := range silentMembers(s, "me") {
		got = append(got, n.Name)
	}
	if diff := cmp.Diff([]string{"sick"}, got); diff != "" {
		t.Errorf("tried (-want +got):\n%s", diff)
	}
}
