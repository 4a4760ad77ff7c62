package main

import (
	"os"

	_ "go.etcd.io/etcd/server/v3/etcdmain"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	kubemark "k8s.io/kubernetes/pkg/kubemark"
	"k8s.io/client-go/dynamic"
)

var _ = []any{apiserver.NewAPIServerCommand, kcm.NewControllerManagerCommand, proxy.NewProxyCommand, scheduler.NewSchedulerCommand, kubelet.NewKubeletCommand, kubemark.NewHollowKubelet, dynamic.NewForConfig}

func main() { os.Exit(0) }
