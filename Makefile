# Two commands matter:  make demo  and  make test.  Each fetches what it needs and nothing else, says what that is,
# pins it, and keeps it in .freshet/; the second time it needs no network.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
SETUP := deployments/setup
PYTHON := PYTHONPATH=models .freshet/venv/bin/python

.PHONY: onnxruntime encoder help build demo test real replay-check lanes-check reasons-check bench-pipeline bench-read bench-step bench-memory bench-scale bench-cluster bench-peers gpu-check chaos chaos-short chaos-unfenced soak fuzz train setup clean clean-all

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/freshet
	@mkdir -p bin
	@go build -trimpath -buildvcs=false -ldflags "-X main.version=$(VERSION)" -o bin/freshet ./cmd/freshet

# Fetching and compiling go on at once.
onnxruntime encoder:
	@$(SETUP)/$@.sh

demo: ## the whole thing in one process, on a generated shop (ARGS="--for 20s --json")
	@$(MAKE) -j3 onnxruntime encoder build
	@exec bin/freshet demo $(ARGS)

test: ## every check: format, vet, staticcheck, trainer, tests under -race on real servers
	@deployments/test/run

real: ## the main job on real servers and real ratings, checked (KEEP=1 leaves the servers up)
	@$(SETUP)/onnxruntime.sh
	@$(SETUP)/encoder.sh
	@$(SETUP)/python.sh train
	@$(MAKE) build
	@KEEP=$(KEEP) deployments/real/run

replay-check: ## a full replay with a kill -9 in it, compared byte for byte with live; timed beside live traffic (KEEP=1 leaves the servers up)
	@$(SETUP)/onnxruntime.sh
	@$(SETUP)/encoder.sh
	@$(SETUP)/python.sh train
	@$(MAKE) build
	@KEEP=$(KEEP) deployments/replay/run

reasons-check: ## 1,000 recommendations on ML-100K: without the item that the reason names, are they less likely? (ARGS="--sources sequence,covisit")
	@$(SETUP)/onnxruntime.sh
	@$(SETUP)/python.sh train
	@$(MAKE) build
	@deployments/real/bundle
	@bin/freshet eval reasons --bundle .freshet/real/bundle --events "$$(find $${DATA:-../shared/data/ml-100k} -maxdepth 1 -name 'ml-100k.inter*' | head -n 1)" $(ARGS)

lanes-check: ## a worse canary must show as worse; a promotion and a roll-back under load must not be noticed (KEEP=1 leaves the servers up)
	@$(SETUP)/onnxruntime.sh
	@$(SETUP)/encoder.sh
	@$(SETUP)/python.sh train
	@$(MAKE) build
	@KEEP=$(KEEP) deployments/lanes/run

bench-pipeline: ## the whole path at full speed and at fixed rates, with the floors under it (ITEMS=n, BASKET=1, ARGS="--events 100000")
	@$(SETUP)/onnxruntime.sh
	@$(SETUP)/python.sh train
	@$(MAKE) build
	@KEEP=$(KEEP) deployments/bench/run

bench-read: ## one GET of a list at 5,000 reads/s while 2,000 events/s are processed (EQUAL=1: readers and Redis do not come first, USERS=n, ARGS="--rate 5000 --events 2000")
	@$(SETUP)/onnxruntime.sh
	@$(SETUP)/python.sh train
	@$(MAKE) build
	@KEEP=$(KEEP) deployments/bench/read

bench-step: ## what an event costs behind 10,000 others: in order, 5 % late, one user at 30 % of the traffic (ARGS="--pairs 1000")
	@$(SETUP)/onnxruntime.sh
	@$(SETUP)/python.sh train
	@$(MAKE) build
	@deployments/bench/step

bench-memory: ## what users take in Redis and in the worker, beside an estimate (ARGS="--users 20000")
	@$(SETUP)/onnxruntime.sh
	@$(SETUP)/python.sh train
	@$(MAKE) build
	@KEEP=$(KEEP) deployments/bench/memory

bench-scale: ## 1, 2 and 4 workers under CPU quotas on 64 partitions, and a hot partition (SHARE=20 USERS=n EVENTS=n)
	@$(SETUP)/onnxruntime.sh
	@$(SETUP)/python.sh train
	@$(MAKE) build
	@KEEP=$(KEEP) deployments/bench/scale

bench-cluster: ## the whole path on one Redis, then on a Redis Cluster of three masters, 64 partitions (MASTERS=n, ARGS="--users n --events n")
	@$(SETUP)/onnxruntime.sh
	@$(SETUP)/python.sh train
	@$(MAKE) build
	@KEEP=$(KEEP) deployments/bench/cluster

gpu-check: ## parity, the device in the metrics, and 1,000,000 items beside the device's ceilings on CUDA; without a GPU a dry run that says so
	@$(SETUP)/onnxruntime.sh
	@$(SETUP)/python.sh train
	@$(MAKE) build
	@KEEP=$(KEEP) deployments/gpu/check

bench-peers: ## beside the consumer that one writes first in Python, on the same servers (USERS=n EVENTS=n SECONDS_OF=n RATE=n)
	@$(SETUP)/onnxruntime.sh
	@$(SETUP)/python.sh train
	@$(SETUP)/python.sh peers
	@$(MAKE) build
	@KEEP=$(KEEP) bench/peers/run

chaos-short: ## every fault once, on real servers, checked against an oracle; 5 minutes (SEED=n repeats a run)
	@deployments/chaos/run short

chaos: ## the same at length: 120,000 events, 60 bounces, 24 kills, 3 rollbacks of the store
	@deployments/chaos/run long

chaos-unfenced: ## the suite's own test: with saves that are not fenced it must find users who are wrong
	@deployments/chaos/run unfenced

soak: ## half an hour of steady load with a fault every 20 s: memory flat, nobody wrong
	@deployments/chaos/run soak

fuzz: ## 10 million inputs over the decoders (EXECUTIONS=n for another number)
	@EXECUTIONS=$(EXECUTIONS) deployments/fuzz/run

train: ## a bundle from a file of events (DATA=FILE OUT=FOLDER, ARGS for more)
	@[ -n "$(DATA)" ] && [ -n "$(OUT)" ] || { echo 'make train: say  make train DATA=events.csv OUT=my-bundle' >&2; exit 2; }
	@$(SETUP)/encoder.sh
	@$(SETUP)/python.sh train
	@$(PYTHON) -m training.cli train --data "$(DATA)" --out "$(OUT)" $(ARGS)

setup: ## fetch everything that any of these needs, now
	@$(SETUP)/onnxruntime.sh
	@$(SETUP)/python.sh train
	@$(SETUP)/encoder.sh
	@$(SETUP)/tools.sh
	@$(SETUP)/redis.sh
	@$(SETUP)/kafka.sh
	@go mod download

clean: ## remove what was built
	@rm -rf bin
	@find models/training -name __pycache__ -prune -exec rm -rf {} +

clean-all: clean ## remove what was fetched, too, and end the local servers
	@deployments/local/down --all --wipe
	@rm -rf .freshet
