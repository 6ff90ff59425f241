// Package capture brings frames of cameras into this process without letting a
// camera harm it.
//
// A [Source] says where pictures come from; it is written as a URI and read by
// [ParseSource]. A [Camera] supervises one source: it starts a worker process
// (toklip-capture, the only program that links OpenCV), restarts it with
// back-off when it dies or falls silent, and reports what it sees as a
// [Status]. Pictures cross in shared memory, whose layout is documented byte by
// byte in segment.go: the worker never waits, the newest [Frame] wins, and what
// was not taken is counted by cause in [Drops].
//
//	src, err := capture.ParseSource("rtsp://user:secret@10.0.0.7/stream1")
//	cam, err := capture.New(capture.Options{Name: "front", Source: src, Logger: log})
//	go cam.Run(ctx) // until ctx ends or a file without loop has ended
//	var f capture.Frame
//	for {
//		if err := cam.NextInto(ctx, &f); err != nil { // io.EOF once nothing more will come
//			break
//		}
//		use(f.Pixels) // read in place
//		f.Release()
//	}
//
// The other side, what a worker does, is [Work]; it is given a function that
// opens a [Grabber]. Nothing here imports OpenCV: the grabbers that need it are
// in capture/source, those of test://pattern in capture/pattern.
//
// The package works on Linux (memfd, eventfd, /proc).
package capture
