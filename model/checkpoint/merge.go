package checkpoint

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// vqInTokLIP is what TokLIP puts before the names of the VQ tokenizer it contains.
const vqInTokLIP = "visual.trunk.vq."

// Merged is a checkpoint made of several files.
type Merged struct {
	readers []Reader
	infos   []Info
	index   map[string]mergedTensor
}

var _ Reader = (*Merged)(nil)

// mergedTensor says where a tensor is read from.
type mergedTensor struct {
	info   Info
	reader int
	name   string // in that reader
}

// Merge joins checkpoints into one: TokLIP's and the VQ tokenizer's, as they are published, or the shards of
// one. A reader that holds nothing but a VQ tokenizer ("encoder.conv_in.weight",
// "quantize.embedding.weight", …) has "visual.trunk.vq." put before its names.
//
// A name that several readers have must have one shape, else Merge fails and names both files. The values
// then come from the reader that has the tensor under this very name rather than from a VQ tokenizer's file
// (TokLIP's own loader lets its checkpoint overwrite the VQ checkpoint, too); among equals from the one
// given first.
//
// The result owns the readers: closing it closes them. After an error they still belong to the caller.
func Merge(readers ...Reader) (*Merged, error) {
	if len(readers) == 0 {
		return nil, errors.New("merge: no checkpoint was given")
	}
	m := &Merged{readers: slices.Clone(readers), index: map[string]mergedTensor{}}
	for _, renamed := range []bool{false, true} {
		for i, r := range readers {
			infos := r.Tensors()
			if vqAlone(infos) != renamed {
				continue
			}
			prefix := ""
			if renamed {
				prefix = vqInTokLIP
			}
			if err := m.add(i, infos, prefix); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

func (m *Merged) add(reader int, infos []Info, prefix string) error {
	for _, info := range infos {
		t := mergedTensor{info: info, reader: reader, name: info.Name}
		t.info.Name = prefix + info.Name
		first, there := m.index[t.info.Name]
		if !there {
			m.index[t.info.Name] = t
			m.infos = append(m.infos, t.info)
			continue
		}
		if !slices.Equal(first.info.Shape, t.info.Shape) {
			return fmt.Errorf("merge: tensor %q has shape %v in %s, but shape %v in %s: these checkpoints do not belong together",
				t.info.Name, first.info.Shape, m.label(first.reader), t.info.Shape, m.label(reader))
		}
	}
	return nil
}

// label names a reader in an error.
func (m *Merged) label(i int) string {
	if p, ok := m.readers[i].(interface{ Path() string }); ok {
		return fmt.Sprintf("%q", p.Path())
	}
	return fmt.Sprintf("checkpoint %d", i+1)
}

// vqAlone says whether these are the tensors of a VQ tokenizer and nothing else.
func vqAlone(infos []Info) bool {
	for _, info := range infos {
		part, _, _ := strings.Cut(info.Name, ".")
		switch part {
		case "encoder", "decoder", "quantize", "quant_conv", "post_quant_conv":
		default:
			return false
		}
	}
	return len(infos) > 0
}

// Tensors implements [Reader]: those of readers with TokLIP's names first.
func (m *Merged) Tensors() []Info { return slices.Clone(m.infos) }

// Lookup implements [Reader].
func (m *Merged) Lookup(name string) (Info, bool) {
	t, ok := m.index[name]
	return t.info, ok
}

// ReadFloat32 implements [Reader].
func (m *Merged) ReadFloat32(name string, dst []float32, offset int64) error {
	t, ok := m.index[name]
	if !ok {
		return fmt.Errorf("no tensor is named %q in any of the %d checkpoints", name, len(m.readers))
	}
	return m.readers[t.reader].ReadFloat32(t.name, dst, offset)
}

// Metadata joins what the readers say about themselves; the first one given wins.
func (m *Merged) Metadata() map[string]string {
	var out map[string]string
	for _, r := range m.readers {
		r, ok := r.(interface{ Metadata() map[string]string })
		if !ok {
			continue
		}
		for k, v := range r.Metadata() {
			if out == nil {
				out = map[string]string{}
			}
			if _, there := out[k]; !there {
				out[k] = v
			}
		}
	}
	return out
}

// Close closes all readers.
func (m *Merged) Close() error {
	var errs []error
	for _, r := range m.readers {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// selection is a part of a reader's tensors.
type selection struct {
	Reader
	keep func(name string) bool
}

// Select shows only those tensors of r whose name keep accepts. keep must always answer the same. Closing
// the selection closes r.
func Select(r Reader, keep func(name string) bool) Reader { return &selection{r, keep} }

// Metadata is what r says about itself.
func (s *selection) Metadata() map[string]string {
	if r, ok := s.Reader.(interface{ Metadata() map[string]string }); ok {
		return r.Metadata()
	}
	return nil
}

func (s *selection) Tensors() []Info {
	return slices.DeleteFunc(s.Reader.Tensors(), func(i Info) bool { return !s.keep(i.Name) })
}

func (s *selection) Lookup(name string) (Info, bool) {
	if !s.keep(name) {
		return Info{}, false
	}
	return s.Reader.Lookup(name)
}

func (s *selection) ReadFloat32(name string, dst []float32, offset int64) error {
	if !s.keep(name) {
		return fmt.Errorf("tensor %q is not part of the selection", name)
	}
	return s.Reader.ReadFloat32(name, dst, offset)
}
