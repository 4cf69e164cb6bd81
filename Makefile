# The two commands that matter are `make demo` and `make test`. Both run as
# root on a fresh Debian 12 or 13 with Go installed, and fetch what is missing
# through apt and the Go proxy. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO      ?= go
BIN     := bin
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Debian packages by what needs them.
AGENT_PACKAGES    := gcc libc6-dev libseccomp-dev pkg-config
SOFTWARE_PACKAGES := qemu-system-x86 qemu-system-common
DEMO_PACKAGES     := debootstrap
TEST_PACKAGES     := systemd e2fsprogs erofs-utils dmsetup busybox-static iproute2 debootstrap podman catatonit docker.io containerd runc containernetworking-plugins
KUBERNETES_PACKAGES := etcd-server iptables containernetworking-plugins runc busybox-static
# Debian 13 has docker's command in a package of its own.
TEST_PACKAGES     += $(shell . /etc/os-release && test "$${VERSION_ID:-0}" -ge 13 && echo docker-cli)

# $(call need,PACKAGE...) installs those that are missing, and nothing else.
define need
@missing=$$(for p in $(1); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
if [ -n "$$missing" ]; then \
	echo "installing through apt:" $$missing; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## build

.PHONY: build
build: binaries kernel initramfs ## build the binaries, the guest kernel and the initramfs into bin/

.PHONY: binaries
binaries:
	$(call need,$(AGENT_PACKAGES) $(SOFTWARE_PACKAGES))
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/microvm-runtime ./cmd/microvm-vmm ./cmd/microvm-network ./cmd/containerd-shim-microvm-v1
	CGO_ENABLED=1 $(GO) build -trimpath -tags 'netgo osusergo seccomp runc_nocriu' -ldflags '$(LDFLAGS) -extldflags "-static"' -o $(BIN)/ ./cmd/microvm-agent

.PHONY: kernel
kernel: ## build the guest kernel (kept outside the clone, under a hash of its recipe)
	@mkdir -p $(BIN)
	@rootfs/guestimage/build-kernel --output $(BIN)/vmlinux >/dev/null

.PHONY: initramfs
initramfs: binaries
	CGO_ENABLED=0 $(GO) run ./rootfs/guestimage/cmd/initramfs -agent $(BIN)/microvm-agent -o $(BIN)/initramfs.cpio

## use

.PHONY: demo
demo: build ## run a container in its own machine and show what happened
	$(call need,$(DEMO_PACKAGES))
	@tests/demo $(BIN)

.PHONY: lab
lab: lab-binaries ## a shell on a machine with real KVM
	@$(BIN)/lab shell

## test

.PHONY: test
test: build test-binaries ## run every suite on both machines
	@debian=$$(tests/debian/build toolchain); programs=$$(GO=$(GO) tests/oci/build-programs); containerd=$$(tests/shim/build-containerd); \
	MICROVM_DEBIAN=$$debian MICROVM_OCI_PROGRAMS=$$programs MICROVM_CONTAINERD=/usr/bin:$$containerd $(GO) run ./tests/suite $(SUITES)

.PHONY: unit
unit: build test-binaries ## run the unit tests only
	@$(GO) run ./tests/suite unit

.PHONY: lab-binaries
lab-binaries:
	$(call need,$(TEST_PACKAGES))
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -o $(BIN)/lab ./tests/lab/cmd/lab
	@$(BIN)/lab deps

.PHONY: test-binaries
test-binaries: lab-binaries
	@mkdir -p $(BIN)/tests
	CGO_ENABLED=0 $(GO) test -c -o $(BIN)/tests/ ./tests/e2e ./tests/engines ./tests/shim ./tests/chaos ./vmm/kvm ./vmm/x86 ./vmm ./vmm/virtio/vsock ./cmd/microvm-vmm

.PHONY: conformance
conformance: build ## run runtime-tools' validation programs (PEER=runc: with runc, too)
	$(if $(PEER),$(call need,$(PEER)))
	@programs=$$(GO=$(GO) tests/oci/build-programs); \
	MICROVM_OCI_PROGRAMS=$$programs MICROVM_OCI_PEER=$$(test -z "$(PEER)" || command -v $(PEER)) \
	$(GO) run ./tests/suite oci $(if $(PEER),oci-peer)

.PHONY: critest
critest: build lab-binaries ## run Kubernetes' validation of container runtimes, with runc too (half an hour)
	@containerd=$$(GO=$(GO) tests/shim/build-containerd); critest=$$(GO=$(GO) tests/cri/build-critest); \
	MICROVM_CONTAINERD=$${MICROVM_CONTAINERD:-$$containerd} MICROVM_CRITEST=$$critest $(GO) run ./tests/suite cri-peer cri

.PHONY: kubernetes
kubernetes: build ## start a Kubernetes node with pods in machines and say its KUBECONFIG (the first time, build Kubernetes)
	$(call need,$(KUBERNETES_PACKAGES))
	@export GO=$(GO); kubernetes=$$(tests/kubernetes/programs/build-kubernetes); containerd=$$(tests/shim/build-containerd); runc=$$(tests/shim/build-runc-shim); \
	$(GO) run ./tests/kubernetes/cmd/node --kubernetes $$kubernetes --containerd $$containerd --runc $$runc --bin $(CURDIR)/$(BIN) up

.PHONY: kubernetes-down
kubernetes-down: ## end it, and leave nothing
	@$(GO) run ./tests/kubernetes/cmd/node down

.PHONY: kubernetes-test
kubernetes-test: ## try on it what Kubernetes promises, with runc too (TESTS=regular expression)
	@CGO_ENABLED=0 $(GO) test -count=1 -timeout=3h -v $(if $(TESTS),-run '$(TESTS)') ./tests/kubernetes

.PHONY: kubernetes-lab
kubernetes-lab: build lab-binaries ## try it with pods on KVM: a control plane here, kubelet and pods in the lab (TESTS=regular expression)
	$(call need,$(KUBERNETES_PACKAGES))
	@mkdir -p $(BIN)/tests tests/out
	CGO_ENABLED=0 $(GO) build -o $(BIN)/tests/ ./tests/kubernetes/cmd/node ./tests/kubernetes/cmd/health
	CGO_ENABLED=0 $(GO) test -c -o $(BIN)/tests/ ./tests/kubernetes
	@export GO=$(GO); kubernetes=$$(tests/kubernetes/programs/build-kubernetes); containerd=$$(tests/shim/build-containerd); runc=$$(tests/shim/build-runc-shim); \
	tests/kubernetes/in-lab '$(TESTS)' --kubernetes $$kubernetes --containerd $$containerd --runc $$runc --bin $(CURDIR)/$(BIN)

ROUNDS ?= 200
SEED ?= 1
.PHONY: chaos
chaos: build test-binaries ## do harm at random moments of containers, ROUNDS times from SEED on (half a minute each in all)
	@containerd=$$(GO=$(GO) tests/shim/build-containerd); \
	MICROVM_CONTAINERD=$${MICROVM_CONTAINERD:-$$containerd} MICROVM_MACHINE=$${MICROVM_MACHINE:-software} MICROVM_BIN=$(CURDIR)/$(BIN) \
	MICROVM_ROUNDS=$(ROUNDS) MICROVM_SEED=$(SEED) $(BIN)/tests/chaos.test -test.v -test.timeout 24h -test.skip '^TestSoak$$'

CONTAINERS ?= 2000
EXECS ?= 10000
.PHONY: soak
soak: build test-binaries ## have CONTAINERS and EXECS come and go in one pod, and see that nothing grows (hours)
	@containerd=$$(GO=$(GO) tests/shim/build-containerd); \
	MICROVM_CONTAINERD=$${MICROVM_CONTAINERD:-$$containerd} MICROVM_MACHINE=$${MICROVM_MACHINE:-software} MICROVM_BIN=$(CURDIR)/$(BIN) \
	MICROVM_CONTAINERS=$(CONTAINERS) MICROVM_EXECS=$(EXECS) $(BIN)/tests/chaos.test -test.v -test.timeout 48h -test.run '^TestSoak$$'

.PHONY: bench
bench: build lab-binaries ## measure against QEMU, side by side, on real KVM
	@CGO_ENABLED=0 $(GO) build -o $(BIN)/bench ./tests/bench
	@mkdir -p $(BIN)/unjailed && ln -f $(BIN)/vmlinux $(BIN)/initramfs.cpio $(BIN)/unjailed/
	@CGO_ENABLED=0 $(GO) build -trimpath -tags unjailed -ldflags '$(LDFLAGS)' -o $(BIN)/unjailed/ ./cmd/microvm-runtime ./cmd/microvm-vmm ./cmd/microvm-network
	@mkdir -p tests/out
	@$(BIN)/lab run -out tests/out -- sh -c 'modprobe vhost_vsock && exec $(BIN)/bench -bin $(CURDIR)/$(BIN) -json $$LAB_OUT/bench.json' 

TIME ?= 1m
.PHONY: fuzz
fuzz: ## run every fuzz target for TIME (default 1m)
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "== $$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(TIME) -fuzzminimizetime 10x $$pkg; \
		done; \
	done

.PHONY: lint
lint: ## gofmt, go vet and staticcheck (golangci-lint finds its list in .golangci.yml)
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@latest ./...

.PHONY: clean
clean: ## remove what was built here (the kernel's cache stays)
	rm -rf $(BIN) tests/out
