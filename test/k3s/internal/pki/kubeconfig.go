package pki

import (
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// WriteKubeconfig writes a kubeconfig that reaches url, trusts the bundle and
// shows the certificate in pair+".crt", all embedded, as k3s' own
// /etc/rancher/k3s/k3s.yaml does. The file appears complete or not at all.
func WriteKubeconfig(path string, mode fs.FileMode, url string, bundle []byte, pair string) error {
	crt, err := os.ReadFile(pair + ".crt")
	if err != nil {
		return err
	}
	key, err := os.ReadFile(pair + ".key")
	if err != nil {
		return err
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["default"] = &clientcmdapi.Cluster{Server: url, CertificateAuthorityData: bundle}
	c.AuthInfos["default"] = &clientcmdapi.AuthInfo{ClientCertificateData: crt, ClientKeyData: key}
	c.Contexts["default"] = &clientcmdapi.Context{Cluster: "default", AuthInfo: "default"}
	c.CurrentContext = "default"
	b, err := clientcmd.Write(*c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, b, 0o600); err != nil {
		return err
	}
	if err := os.Chmod(temporary, mode); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
