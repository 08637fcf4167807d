// Command grpc is the bench's gRPC peer at both ends: grpc-go's own benchmark service, and calls to it.
//
//	grpc serve ADDRESS...
//	grpc load ADDRESS -way unary|streaming -connections N -calls N -seconds N
//	grpc call ADDRESS METHOD
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/benchmark"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Octets of each message's payload, both ways.
const payload = 100

func main() {
	if len(os.Args) < 3 {
		fail("serve ADDRESS... | load ADDRESS ... | call ADDRESS METHOD")
	}
	switch address := os.Args[2]; os.Args[1] {
	case "serve":
		serve(os.Args[2:])
	case "load":
		load(address, os.Args[3:])
	case "call":
		if len(os.Args) != 4 {
			fail("call ADDRESS METHOD")
		}
		call(address, os.Args[3])
	default:
		fail("unknown command %q", os.Args[1])
	}
}

func fail(text string, values ...any) {
	fmt.Fprintf(os.Stderr, text+"\n", values...)
	os.Exit(1)
}

// serve answers until it is killed.
func serve(addresses []string) {
	for _, address := range addresses {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			fail("%v", err)
		}
		benchmark.StartServer(benchmark.ServerInfo{Type: "protobuf", Listener: listener})
	}
	select {}
}

func dial(address string) *grpc.ClientConn {
	connection, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fail("%v", err)
	}
	return connection
}

// call prints the status of one call with an empty message.
func call(address, method string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	err := dial(address).Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
	fmt.Println(status.Code(err))
}

// worker makes one call after the other.
type worker struct {
	answered []time.Duration
	failed   int
	why      error
}

func load(address string, arguments []string) {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	way := flags.String("way", "unary", "unary: a call a request; streaming: a message each way, on a stream that stays")
	connections := flags.Int("connections", 1, "connections")
	calls := flags.Int("calls", 1, "calls at a time, of each connection")
	seconds := flags.Int("seconds", 1, "how long")
	flags.Parse(arguments)

	clients := make([]testgrpc.BenchmarkServiceClient, *connections)
	for i := range clients {
		clients[i] = testgrpc.NewBenchmarkServiceClient(dial(address))
		if err := benchmark.DoUnaryCall(clients[i], payload, payload); err != nil {
			fail("first call: %v", err)
		}
	}
	var all sync.WaitGroup
	workers := make([]worker, *connections**calls)
	began := time.Now()
	ctx, cancel := context.WithDeadline(context.Background(), began.Add(time.Duration(*seconds+5)*time.Second))
	defer cancel()
	until := began.Add(time.Duration(*seconds) * time.Second)
	for i := range workers {
		all.Go(func() { workers[i].run(ctx, clients[i%len(clients)], *way, until) })
	}
	all.Wait()
	report(workers, time.Since(began))
}

func (w *worker) run(ctx context.Context, client testgrpc.BenchmarkServiceClient, way string, until time.Time) {
	once := func() error { return benchmark.DoUnaryCall(client, payload, payload) }
	if way == "streaming" {
		stream, err := client.StreamingCall(ctx)
		if err != nil {
			w.failed, w.why = 1, err
			return
		}
		once = func() error { return benchmark.DoStreamingRoundTrip(stream, payload, payload) }
	}
	for start := time.Now(); start.Before(until); {
		err := once()
		now := time.Now()
		if err == nil {
			w.answered = append(w.answered, now.Sub(start))
		} else {
			w.failed, w.why = w.failed+1, err
			if way == "streaming" {
				return
			}
		}
		start = now
	}
}

// report prints a line: answered, failed, seconds, p50 and p99 in microseconds, seconds of CPU.
func report(workers []worker, took time.Duration) {
	var times []time.Duration
	failed := 0
	for _, w := range workers {
		times = append(times, w.answered...)
		failed += w.failed
		if w.why != nil {
			fmt.Fprintln(os.Stderr, w.why)
		}
	}
	if len(times) == 0 {
		fail("no call was answered")
	}
	slices.Sort(times)
	at := func(percent int) float64 { return float64(times[min(len(times)*percent/100, len(times)-1)].Nanoseconds()) / 1e3 }
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail("%v", err)
	}
	cpu := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	fmt.Println("bench", len(times), failed, took.Seconds(), at(50), at(99), cpu.Seconds())
}
