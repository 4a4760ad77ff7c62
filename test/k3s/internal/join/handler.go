package join

import (
	"context"
	"crypto"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rhizome-dev/rhizome/test/k3s/internal/pki"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/token"
)

// bootstrapGroup is the group that k3s gives to the bootstrap tokens that may
// join nodes (https://docs.k3s.io/cli/token#bootstrap).
const bootstrapGroup = "system:bootstrappers:k3s:default-node-token"

// Handler answers a server's side of the requests.
type Handler struct {
	ServerPassword string
	AgentPassword  string // empty: agents, too, show the server's password

	ServerCA, ClientCA *pki.Authority
	Node               NodeReply   // the settings; certificates are filled in
	Further            ServerReply // what a further server gets

	// Kube acts as cluster administrator.
	Kube kubernetes.Interface
	// Members changes etcd's membership.
	Members Members
}

// Members is etcd's membership, as far as joining needs it.
type Members interface {
	Add(ctx context.Context, name, peerURL string) (initialCluster string, err error)
	Promote(ctx context.Context, name string) error
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "only POST", http.StatusMethodNotAllowed)
		return
	}
	var reply any
	var err error
	switch r.URL.Path {
	case NodePath:
		reply, err = h.node(r)
	case ServerPath:
		if err = h.mayServe(r); err == nil {
			reply = h.Further
		}
	case MemberPath:
		reply, err = h.member(r)
	default:
		http.NotFound(w, r)
		return
	}
	if err != nil {
		status := http.StatusServiceUnavailable
		var d denied
		if errors.As(err, &d) {
			status = d.status
		}
		log.Printf("join: %s from %s: %v", r.URL.Path, r.RemoteAddr, err)
		http.Error(w, err.Error(), status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(reply)
}

// denied is an answer that asking again will not change.
type denied struct {
	status int
	reason string
}

func (d denied) Error() string { return d.reason }

func equal(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

func (h *Handler) mayServe(r *http.Request) error {
	user, password, ok := r.BasicAuth()
	if ok && user == string(token.Server) && equal(h.ServerPassword, password) {
		return nil
	}
	if strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
		return denied{http.StatusForbidden, "a bootstrap token joins agents, not servers"}
	}
	return denied{http.StatusUnauthorized, "not the server token"}
}

func (h *Handler) mayJoin(r *http.Request) error {
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		review, err := h.Kube.AuthenticationV1().TokenReviews().Create(r.Context(), &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: bearer},
		}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("cannot check the bootstrap token: %w", err)
		}
		if !review.Status.Authenticated {
			return denied{http.StatusUnauthorized, "no such bootstrap token, or it has expired"}
		}
		for _, g := range review.Status.User.Groups {
			if g == bootstrapGroup {
				return nil
			}
		}
		return denied{http.StatusForbidden, "the bootstrap token is not in the group " + bootstrapGroup}
	}
	user, password, ok := r.BasicAuth()
	if !ok {
		return denied{http.StatusUnauthorized, "no token"}
	}
	agentPassword := h.AgentPassword
	if agentPassword == "" {
		agentPassword = h.ServerPassword
	}
	switch token.Kind(user) {
	case token.Server:
		if equal(h.ServerPassword, password) {
			return nil
		}
	case token.Node:
		if equal(agentPassword, password) {
			return nil
		}
	}
	return denied{http.StatusUnauthorized, "neither the server's nor the agents' token"}
}

func (h *Handler) node(r *http.Request) (any, error) {
	if err := h.mayJoin(r); err != nil {
		return nil, err
	}
	var in NodeRequest
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<20)).Decode(&in); err != nil {
		return nil, denied{http.StatusBadRequest, err.Error()}
	}
	if err := checkNodePassword(r.Context(), h.Kube, in.Name, in.Password); err != nil {
		if errors.Is(err, errNodePassword) {
			return nil, denied{http.StatusForbidden, err.Error()}
		}
		return nil, err
	}
	serving := pki.Subject{Name: in.Name, Server: true, DNS: []string{in.Name, "localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}
	for _, s := range in.IPs {
		if ip := net.ParseIP(s); ip != nil {
			serving.IPs = append(serving.IPs, ip)
		}
	}
	out := h.Node
	out.ServerCA, out.ClientCA = h.ServerCA.Bundle, h.ClientCA.Bundle
	for _, c := range []struct {
		to      *[]byte
		request []byte
		by      *pki.Authority
		subject pki.Subject
	}{
		{&out.Kubelet, in.Kubelet, h.ClientCA, pki.Subject{Name: "system:node:" + in.Name, Groups: []string{"system:nodes"}, Client: true}},
		{&out.Serving, in.Serving, h.ServerCA, serving},
		{&out.KubeProxy, in.KubeProxy, h.ClientCA, pki.Subject{Name: "system:kube-proxy", Client: true}},
		{&out.Controller, in.Controller, h.ClientCA, pki.Subject{Name: "system:k3s-controller", Client: true}},
	} {
		public, err := requestedKey(c.request)
		if err != nil {
			return nil, denied{http.StatusBadRequest, fmt.Sprintf("certificate request for %s: %v", c.subject.Name, err)}
		}
		if *c.to, err = c.by.Sign(c.subject, public); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// requestedKey takes only the key from a request: who it is for was decided
// by how its sender authenticated.
func requestedKey(b []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("not PEM")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return req.PublicKey, req.CheckSignature()
}

func (h *Handler) member(r *http.Request) (any, error) {
	if err := h.mayServe(r); err != nil {
		return nil, err
	}
	var in MemberRequest
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<16)).Decode(&in); err != nil {
		return nil, denied{http.StatusBadRequest, err.Error()}
	}
	if in.Promote {
		return MemberReply{}, h.Members.Promote(r.Context(), in.Name)
	}
	cluster, err := h.Members.Add(r.Context(), in.Name, in.PeerURL)
	return MemberReply{InitialCluster: cluster}, err
}

// Denied is an error that the handler answers with "refused": asking again
// will not change it.
func Denied(reason string) error { return denied{http.StatusConflict, reason} }
