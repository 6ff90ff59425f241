package trt

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"unsafe"
)

// ---- library

func (f *fake) open(abi uint32, o *openArg, out *unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("open", true)
	defer end()
	if e != nil {
		return e
	}
	f.opened = append(f.opened, openArg2{abi, cText(o.nvinfer), cText(o.parser), cText(o.cuda), o.device, o.cpuOnly})
	*out = f.newHandle("library")
	return nil
}
func (f *fake) libraryFree(l unsafe.Pointer) unsafe.Pointer {
	return f.free("library free", "library", l)
}
func (f *fake) libraryDescribe(l unsafe.Pointer, out *libraryArg) {
	_, end := f.begin("describe", false, l)
	defer end()
	*out = f.info
}
func (f *fake) logTake(l unsafe.Pointer, severity *int32, text []byte, dropped *uint64) bool {
	_, end := f.begin("log", true, l)
	defer end()
	f.mu.Lock()
	defer f.mu.Unlock()
	*dropped, f.lost = f.lost, 0
	if len(f.lines) == 0 {
		return false
	}
	*severity = f.lines[0].severity
	n := copy(text[:len(text)-1], f.lines[0].text)
	text[n] = 0
	f.lines = f.lines[1:]
	return true
}
func (f *fake) deviceDescribe(l unsafe.Pointer, out *deviceArg) unsafe.Pointer {
	e, end := f.begin("device", false, l)
	defer end()
	if e == nil {
		*out = f.device
	}
	return e
}
func (f *fake) deviceReset(l unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("reset", false, l)
	defer end()
	if f.get(l).children > 0 {
		f.errorf(ErrBusy, "handles are open")
	}
	return e
}

// ---- build

func (f *fake) buildNew(l unsafe.Pointer, o *buildArg, out *unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("build new", false, l)
	defer end()
	if e != nil {
		return e
	}
	f.build = buildArg2{*o, cText(o.onnx), cText(o.plan), cText(o.timingCache), cText(o.layers), slices.Clone(view[int32](o.capabilities, int(o.capabilityCount)))}
	*out = f.newHandle("build", l)
	return nil
}
func (f *fake) buildRun(b unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("build run", true, b)
	defer end()
	h := f.get(b)
	f.mu.Lock()
	h.users["build run"]++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(h.users, "build run")
	}()
	if f.buildGate != nil {
		gone := h.gone
		if f.uncancel {
			gone = nil
		}
		select {
		case <-f.buildGate:
		case <-gone:
			return f.errorf(ErrCancelled, "the build was cancelled")
		}
	}
	return e
}
func (f *fake) buildProgress(b unsafe.Pointer, out *progressArg) {
	_, end := f.begin("build progress", true, b)
	defer end()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.phases) > 0 {
		*out = f.phases[0]
		if len(f.phases) > 1 {
			f.phases = f.phases[1:]
		}
	}
}
func (f *fake) buildCancel(b unsafe.Pointer) {
	_, end := f.begin("build cancel", true, b)
	defer end()
	close(f.get(b).gone)
}
func (f *fake) buildFree(b unsafe.Pointer) { f.free("build free", "build", b) }
func (f *fake) networkDescribe(l unsafe.Pointer, onnx uintptr, json *unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("network", false, l)
	defer end()
	if e == nil {
		*json = f.newString(f.network(cText(onnx)))
	}
	return e
}

func (f *fake) network(path string) string {
	if path == "broken.onnx" {
		return "{"
	}
	return `{"inputs":[{"name":"image","type":"fp32","shape":[-1,3,64,64]}],"outputs":[{"name":"ids","type":"int32","shape":[-1,16]}],"layers":7}`
}

// ---- engine

func (f *fake) engineLoad(l unsafe.Pointer, plan []byte, dla int32, out *unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("load", false, l)
	defer end()
	if e != nil {
		return e
	}
	if !strings.HasPrefix(string(plan), "plan") {
		return f.errorf(ErrBadPlan, "the plan is no plan")
	}
	*out = f.newHandle("engine", l)
	return nil
}
func (f *fake) engineFree(e unsafe.Pointer) unsafe.Pointer { return f.free("engine free", "engine", e) }
func (f *fake) engineLayers(e unsafe.Pointer, json *unsafe.Pointer) unsafe.Pointer {
	err, end := f.begin("layers", false, e)
	defer end()
	if err == nil {
		*json = f.newString(`{"Layers":[]}`)
	}
	return err
}

// engineRun notes its inputs and fills outputs with 1, 2, 3 ...
func (f *fake) engineRun(e unsafe.Pointer, in, out []tensorArg) unsafe.Pointer {
	err, end := f.begin("run", false, e)
	defer end()
	if err != nil {
		return err
	}
	for _, t := range in {
		shape := view[int64](t.shape, int(t.rank))
		var values any
		switch t.typ {
		case typeFP32:
			values = view[float32](t.data, int(t.size)/4)
		case typeFP16:
			values = view[uint16](t.data, int(t.size)/2)
		case typeInt32:
			values = view[int32](t.data, int(t.size)/4)
		}
		f.ran = append(f.ran, fmt.Sprint(cText(t.name), " ", shape, " ", values))
	}
	for _, t := range out {
		switch t.typ {
		case typeFP32:
			for i, v := range view[float32](t.data, int(t.size)/4) {
				view[float32](t.data, int(t.size)/4)[i] = v + float32(i+1)
			}
		case typeInt32:
			for i := range view[int32](t.data, int(t.size)/4) {
				view[int32](t.data, int(t.size)/4)[i] = int32(i + 1)
			}
		}
	}
	return nil
}

// ---- pipeline

func (f *fake) pipelineNew(l unsafe.Pointer, o *pipelineArg, out *unsafe.Pointer) unsafe.Pointer {
	e, end := f.begin("pipeline new", false, l, o.tokenizer)
	defer end()
	if e != nil {
		return e
	}
	parents := []unsafe.Pointer{l, o.tokenizer}
	if o.encoder != nil {
		parents = append(parents, o.encoder)
	}
	f.pipeline, f.codebook = *o, slices.Clone(view[float32](o.codebook, int(o.codebookSize*o.codebookDim)))
	*out = f.newHandle("pipeline", parents...)
	f.get(*out).options = *o
	return nil
}
func (f *fake) pipelineFree(p unsafe.Pointer) { f.free("pipeline free", "pipeline", p) }

// handle makes results of frames: id i is byte i of the pixels plus the stream.
func (f *fake) handle(h *fakeHandle, frames []frameArg) ([]resultArg, unsafe.Pointer) {
	o := h.options
	results := make([]resultArg, len(frames))
	for i, fr := range frames {
		if fr.data == 0 || fr.size == 0 || fr.stream >= o.streamsMax {
			return nil, f.errorf(ErrInvalid, "frame %d: %d bytes of stream %d", i, fr.size, fr.stream)
		}
		pixels := view[byte](fr.data, int(fr.size))
		ids := make([]int32, o.tokens)
		for j := range ids {
			ids[j] = int32(pixels[j%len(pixels)]) + fr.stream
		}
		packed := make([]byte, 4*len(ids))
		for j, id := range ids {
			binary.LittleEndian.PutUint32(packed[4*j:], uint32(id))
		}
		changed := make([]uint64, (len(ids)+63)/64)
		last := h.last[fr.stream]
		r := &results[i]
		r.fresh = fr.fresh || last == nil
		for j := range ids {
			if r.fresh || last[j] != ids[j] {
				changed[j/64] |= 1 << (j % 64)
				r.changedCount++
			}
		}
		h.last[fr.stream] = ids
		r.encoded = o.encoder != nil && r.changedCount > 0
		h.keep = append(h.keep, ids, packed, changed)
		r.ids, r.packed, r.packedSize, r.changed = addr(ids), addr(packed), uintptr(len(packed)), addr(changed)
		if r.encoded {
			features := make([]float32, o.tokens*o.featureDim)
			for j := range features {
				features[j] = float32(ids[j/int(o.featureDim)])
			}
			embedding, unit := make([]float32, o.embeddingDim), make([]float32, o.embeddingDim)
			for j := range embedding {
				embedding[j] = float32(fr.width)
				unit[j] = float32(1 / math.Sqrt(float64(len(unit))))
			}
			h.keep = append(h.keep, features, embedding, unit)
			r.features, r.embedding, r.unit = addr(features), addr(embedding), addr(unit)
		}
	}
	return results, nil
}

func addr[T any](s []T) uintptr { return uintptr(unsafe.Pointer(&s[0])) }

// hold keeps a call of a pipeline waiting, if the test wants it.
func (f *fake) hold(fn string) {
	if f.gate != nil {
		f.inCall <- fn
		<-f.gate
	}
}

func (f *fake) pipelineSubmit(p unsafe.Pointer, frames []frameArg) unsafe.Pointer {
	e, end := f.begin("submit", false, p)
	defer end()
	f.hold("submit")
	if e != nil {
		return e
	}
	h := f.get(p)
	f.mu.Lock()
	full := len(h.batches) >= int(h.options.inFlight)
	f.mu.Unlock()
	if full {
		return f.errorf(ErrBusy, "all batches are under way")
	}
	results, e := f.handle(h, frames)
	if e != nil {
		return e
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h.batches = append(h.batches, results)
	return nil
}

func (f *fake) pipelineWait(p unsafe.Pointer, results []resultArg, times *timesArg) unsafe.Pointer {
	e, end := f.begin("wait", false, p)
	defer end()
	f.hold("wait")
	h := f.get(p)
	f.mu.Lock()
	if len(h.batches) == 0 {
		f.fault("wait: without a batch")
		f.mu.Unlock()
		return f.errorf(ErrInvalid, "no batch is under way")
	}
	batch := h.batches[0]
	h.batches = h.batches[1:]
	f.mu.Unlock()
	if e != nil {
		return e
	}
	if len(results) != len(batch) {
		return f.errorf(ErrInvalid, "room for %d results, %d frames", len(results), len(batch))
	}
	copy(results, batch)
	*times = f.times
	return nil
}

func (f *fake) pipelineProcess(p unsafe.Pointer, frames []frameArg, results []resultArg, times *timesArg) unsafe.Pointer {
	e, end := f.begin("process", false, p)
	defer end()
	f.hold("process")
	if e != nil {
		return e
	}
	r, e := f.handle(f.get(p), frames)
	if e != nil {
		return e
	}
	copy(results, r)
	*times = f.times
	return nil
}
