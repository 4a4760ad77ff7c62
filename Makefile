# Two targets do everything, on a fresh Debian machine, as root:
#
#   make lab    grows a cluster from blank virtual machines
#   make test   passes the tests
#
# Both install what they need. Slow products are kept in the cache directory.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= v0.1.0-dev
CACHE   := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rhizome

GOLANGCI_VERSION := v2.15.0
LINT := $(CACHE)/tools/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint

# A target that builds finds, or fetches, the Go toolchain that go.mod asks for.
ifneq ($(filter-out help clean lab-down,$(or $(MAKECMDGOALS),help)),)
GO_BIN := $(shell test/setup/go.sh)
ifeq ($(GO_BIN),)
$(error there is no Go toolchain for this repository, see above)
endif
export PATH := $(GO_BIN):$(PATH)
endif
# One set of flags for products and tests: the compiled packages are shared.
export CGO_ENABLED := 0
export GOFLAGS := -buildvcs=false -trimpath
# The boot files of `make boot-files`, for the tests that boot them.
export RHIZOME_BOOT_FILES := $(CURDIR)/dist/boot

GO_LDFLAGS := -s -w -X main.version=$(VERSION)
ARCHIVE := dist/rhizome-operator.oci.tar
PACKAGE_LISTS := $(shell find operator pxe test -name packages.txt)

# Packages whose tests boot machines, virtual or simulated, or run Argo CD and Gitea,
# the longest first. They wait much of their time, for firmware, leases and each other,
# so several run side by side.
MACHINE_TESTS := ./test/e2e/... ./test/fleet/... ./operator/gitops/... ./test/netboot/... \
	./test/seed/... ./operator/healing/... ./test/gitops/... ./test/preseed/... ./test/lab/... ./pxe/installer/...
SIDE_BY_SIDE := 2
# What is very slow on an emulated processor: every firmware over every network:
# `make test-all`.
SLOW_TESTS := ./test/matrix/...

##@ Use

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: lab
lab: build programs ## Grow a cluster from blank virtual machines; it stays up until `make lab-down`
	dist/lab up --operator-image $(ARCHIVE)

.PHONY: lab-heal
lab-heal: build programs ## Wipe two machines of the lab, and see the cluster heal itself; without a lab it starts one of three servers
	dist/lab up --operator-image $(ARCHIVE) --servers 3 --machines 4
	dist/lab heal

.PHONY: lab-down
lab-down: ## Stop the lab; nothing of it is left behind
	@if [ -x dist/lab ]; then dist/lab down; else echo "there is no lab here"; fi

##@ Build

.PHONY: setup
setup: ## Install the Debian packages that building and testing need
	test/setup/apt.sh $(PACKAGE_LISTS)

.PHONY: build
build: bootstrapper image ## Build everything that is shipped, into dist/

.PHONY: bootstrapper
bootstrapper: setup ## Build dist/bootstrapper for this machine
	go build -ldflags '$(GO_LDFLAGS)' -o dist/bootstrapper ./bootstrapper

.PHONY: cross
cross: ## Build the bootstrapper for linux and darwin, amd64 and arm64
	for os in linux darwin; do for arch in amd64 arm64; do \
		echo "bootstrapper $$os/$$arch"; \
		GOOS=$$os GOARCH=$$arch go build -ldflags '$(GO_LDFLAGS)' -o dist/cross/bootstrapper-$$os-$$arch ./bootstrapper; \
	done; done

.PHONY: boot-files
boot-files: setup ## Make the boot loaders and the in-memory installer, in dist/boot/
	pxe/loader/build.sh dist/boot
	pxe/installer/build.sh dist/boot

.PHONY: image
image: boot-files ## Build the operator's image as an OCI archive, without Docker
	VERSION=$(VERSION) operator/image/build.sh $(ARCHIVE) dist/boot

.PHONY: programs
programs: setup ## Build what the lab starts: the stand-in for k3s, the disk image, Argo CD (cached)
	test/k3s/build.sh >/dev/null
	test/lab/image/build.sh >/dev/null
	test/argocd/image/build.sh >/dev/null
	go build -o dist/lab ./test/lab/cmd/lab

.PHONY: test-programs
test-programs: programs ## Build the further programs that only tests start: Gitea (cached)
	test/gitea/program/build.sh >/dev/null

.PHONY: generate
generate: ## Generate deep copies, CRDs, RBAC and the kustomization from the code
	go generate ./crds/... ./chart/... ./operator/...

##@ Check

# Variants of booting that make real firmware wait for minutes each, a foreign installer
# and the healing of whole machines on an emulated processor, and what the whole seed
# covers again. `make test-all` runs them too. (Of the matrix Secure Boot alone is in
# `make test`: nothing else runs the signed loaders.)
SLOW := TestRealFirmware/(silence|leaves)|TestRealFirmwareWithABlankDisk|TestEveryLoaderAndFirmwareInstalls|TestLabImageBoots|TestTheDebianInstallerIsLed|TestMachinesOfRealFirmwareAreHealed

.PHONY: test
test: build test-programs lint generated cross test-unit ## Pass the tests, virtual machines included
	cd test/k3s && go test -vet=off ./...
	go test -timeout 20m -run 'TestMatrix/^Secure_Boot_PXE,_our' ./test/matrix
	go test -timeout 70m -p $(SIDE_BY_SIDE) -parallel $(SIDE_BY_SIDE) -skip '$(SLOW)' $(MACHINE_TESTS)

.PHONY: test-all
test-all: test matrix-setup ## Pass all tests, the slow variants of booting included
	go test -timeout 150m -p 1 -run '$(SLOW)' ./test/e2e ./test/netboot ./test/lab ./test/preseed ./test/fleet
	go test -timeout 180m -p 1 $(SLOW_TESTS)

.PHONY: matrix-setup
matrix-setup: setup
	test/setup/apt.sh test/matrix/arm64-packages.txt

# ROWS chooses rows, such as ROWS='arm64|Secure_Boot'.
ROWS ?= .
.PHONY: matrix
matrix: matrix-setup ## Boot every firmware over every network, one by one, and print a table
	mkdir -p dist
	go test -count 1 -timeout 180m -run '/$(ROWS)' ./test/matrix -args -table $(CURDIR)/dist/matrix.md
	@cat dist/matrix.md

.PHONY: test-unit
test-unit: ## Run the tests that boot no virtual machine
	go test -timeout 30m $$(go list ./... | grep -v -x -F "$$(go list $(MACHINE_TESTS) $(SLOW_TESTS))")

.PHONY: lint
lint: $(LINT) ## Run the linters
	$(LINT) run --allow-parallel-runners ./...
	shellcheck --severity=warning $$(git ls-files '*.sh') .ci/run

.PHONY: generated
generated: generate ## Fail when generated files are stale
	@if [ -n "$$(git status --porcelain -- crds chart kustomization.yaml docs/reference/api.md)" ]; then \
		git --no-pager diff --stat -- crds chart kustomization.yaml docs/reference/api.md; \
		echo "generated files are stale: run 'make generate' and commit what it changes"; exit 1; fi

$(LINT):
	GOBIN=$(dir $@) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

FUZZTIME ?= 1m
.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (1m)
	test/setup/fuzz.sh $(FUZZTIME)

# SCHEDULES is how many, by CLUSTERS side by side, where there are processors for more than
# one; SEEDS, with commas between, are the first ones: those that failed.
SCHEDULES ?= 200
CLUSTERS ?= 1
SEEDS ?=
.PHONY: chaos
chaos: build test-programs ## Break a cluster of thirteen machines by SCHEDULES (200) random schedules of faults
	RHIZOME_CHAOS_SCHEDULES=$(SCHEDULES) RHIZOME_CHAOS_CLUSTERS=$(CLUSTERS) RHIZOME_CHAOS_SEED=$(SEEDS) \
		go test -count 1 -v -timeout 24h -parallel $(CLUSTERS) -run '^TestChaosBreaksNothingAndWhatCanBeRepairedIsRepaired$$' ./test/fleet

.PHONY: bench
bench: build programs ## Measure beside the floor of the same work, and beside the peers
	go run ./test/bench

.PHONY: clean
clean: ## Remove dist/
	rm -rf dist
