// delay forwards TCP connections and holds the bytes of each direction back for half of a round trip: a far server on one
// machine, for a kernel without netem.
//
//	delay -listen ADDRESS -to ADDRESS -round-trip 20ms [-rate BYTES] [-window BYTES]
//
// With a rate, all connections share a link that carries so many bytes a second in each direction: a byte leaves when those
// before it have passed. Without one, there is no limit on the rate of all together. A byte that comes at t leaves at t + half a round trip. Up to a window of bytes is held for each direction of a
// connection, so the rate of one is window / half a round trip at most: the window must be larger than the product of
// rate and delay. A connection costs the client a round trip before its first bytes are under way. The growth of TCP's
// own window at the begin of a connection, and losses, are not played.
package main

import (
	"flag"
	"io"
	"log"
	"net"
	"sync"
	"time"
)

const (
	chunk     = 256 << 10
	leastRoom = 32 << 10 // a chunk with less is full
)

func main() {
	listen := flag.String("listen", "", "`address` to listen on")
	to := flag.String("to", "", "`address` to forward to")
	roundTrip := flag.Duration("round-trip", 0, "delay of both directions together")
	rate := flag.Int64("rate", 0, "`bytes` a second of each direction of all connections together; 0 for no limit")
	window := flag.Int("window", 64<<20, "`bytes` held for one direction of a connection at most")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	there, back := &line{rate: *rate}, &line{rate: *rate}
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go forward(client, *to, *roundTrip, *window, there, back)
	}
}

func forward(client net.Conn, to string, roundTrip time.Duration, window int, there, back *line) {
	// Here the client is connected at once; over a real link, a round trip after it asked.
	connected := time.Now().Add(roundTrip)
	server, err := net.Dial("tcp", to)
	if err != nil {
		client.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { carry(client, server, connected, roundTrip/2, window, there) })
	both.Go(func() { carry(server, client, connected, roundTrip/2, window, back) })
	both.Wait()
	client.Close()
	server.Close()
}

// piece is what one read brought.
type piece struct {
	data []byte
	due  time.Time
	// The last piece of a chunk gives the chunk back.
	whole *[chunk]byte
}

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// carry moves bytes from one connection to the other until the first one ends, and then ends that direction. What is
// read before the client counts as connected comes as late as that.
func carry(from, to net.Conn, connected time.Time, by time.Duration, window int, over *line) {
	pieces := make(chan piece, window/1024)
	room := newRoom(window)
	go func() {
		defer close(pieces)
		whole, used := chunks.Get().(*[chunk]byte), 0
		for {
			n, err := from.Read(whole[used:])
			if n > 0 {
				came := time.Now()
				if came.Before(connected) {
					came = connected
				}
				next := piece{data: whole[used : used+n], due: over.pass(came, n).Add(by)}
				used += n
				if chunk-used < leastRoom {
					next.whole = whole
					whole, used = chunks.Get().(*[chunk]byte), 0
				}
				room.take(n)
				pieces <- next
			}
			if err != nil {
				return
			}
		}
	}()
	broken := false
	for next := range pieces {
		if !broken {
			time.Sleep(time.Until(next.due))
			_, err := to.Write(next.data)
			if err != nil {
				broken = true
				from.Close() // ends the reader
			}
		}
		room.give(len(next.data))
		if next.whole != nil {
			chunks.Put(next.whole)
		}
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok && !broken {
		if err := half.CloseWrite(); err != nil && err != io.EOF {
			to.Close()
		}
	}
}

// line is one direction of the link.
type line struct {
	lock sync.Mutex
	rate int64
	free time.Time
}

// pass returns when bytes that came at this time have been carried.
func (l *line) pass(came time.Time, bytes int) time.Time {
	if l.rate == 0 {
		return came
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.free.Before(came) {
		l.free = came
	}
	l.free = l.free.Add(time.Duration(int64(bytes) * int64(time.Second) / l.rate))
	return l.free
}

// room is the part of a window that is free.
type room struct {
	lock  sync.Mutex
	freed sync.Cond
	free  int
}

func newRoom(bytes int) *room {
	r := &room{free: bytes}
	r.freed.L = &r.lock
	return r
}

// take waits until something is free. It may exceed the window by one read.
func (r *room) take(bytes int) {
	r.lock.Lock()
	defer r.lock.Unlock()
	for r.free <= 0 {
		r.freed.Wait()
	}
	r.free -= bytes
}

func (r *room) give(bytes int) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.free += bytes
	r.freed.Signal()
}
