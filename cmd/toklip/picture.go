package main

import (
	"bufio"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	_ "image/jpeg" // JPEG files are read
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/toklip/toklip/engine/preprocess"
)

// picture is an image file in memory: RGB, 8 bits a channel, rows without gaps.
type picture struct {
	width, height int
	rgb           []byte
}

// readPicture reads a PNG or JPEG file. Its size is checked before memory is
// taken for it. Transparency is ignored, as Pillow's convert("RGB") does.
func readPicture(path string) (*picture, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("read image %s: it is a folder: name the files in it", path)
	}
	header, _, err := image.DecodeConfig(bufio.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w (PNG and JPEG are read)", path, err)
	}
	if header.Width < 1 || header.Height < 1 || header.Width > preprocess.MaxSourceEdge || header.Height > preprocess.MaxSourceEdge {
		return nil, fmt.Errorf("read image %s: %dx%d pixels; each edge must lie between 1 and %d",
			path, header.Width, header.Height, preprocess.MaxSourceEdge)
	}
	if _, err := file.Seek(0, 0); err != nil {
		return nil, fmt.Errorf("read image %s: %w", path, err)
	}
	decoded, _, err := image.Decode(bufio.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", path, err)
	}
	return pictureOf(decoded), nil
}

func pictureOf(decoded image.Image) *picture {
	bounds := decoded.Bounds()
	// NRGBA keeps colours apart from transparency. The general conversion goes through premultiplied colours, which
	// would turn the transparent entries of a palette black.
	if paletted, ok := decoded.(*image.Paletted); ok {
		return ofPalette(paletted)
	}
	nrgba, ok := decoded.(*image.NRGBA)
	if !ok {
		nrgba = image.NewNRGBA(bounds)
		draw.Draw(nrgba, bounds, decoded, bounds.Min, draw.Src)
	}
	p := &picture{width: bounds.Dx(), height: bounds.Dy(), rgb: make([]byte, 0, 3*bounds.Dx()*bounds.Dy())}
	for y := range p.height {
		row := nrgba.Pix[y*nrgba.Stride:]
		for x := range p.width {
			p.rgb = append(p.rgb, row[4*x], row[4*x+1], row[4*x+2])
		}
	}
	return p
}

func ofPalette(in *image.Paletted) *picture {
	palette := make([][3]byte, 256) // more entries than an index can name
	for i, entry := range in.Palette {
		c := color.NRGBAModel.Convert(entry).(color.NRGBA)
		palette[i] = [3]byte{c.R, c.G, c.B}
	}
	p := &picture{width: in.Rect.Dx(), height: in.Rect.Dy(), rgb: make([]byte, 0, 3*in.Rect.Dx()*in.Rect.Dy())}
	for y := range p.height {
		for _, index := range in.Pix[y*in.Stride:][:p.width] {
			p.rgb = append(p.rgb, palette[index][:]...)
		}
	}
	return p
}

// checkPNGName refuses names that would call a PNG file something else.
func checkPNGName(path string) error {
	if ext := filepath.Ext(path); !strings.EqualFold(ext, ".png") {
		return usageError{fmt.Errorf("%q is written as PNG: give it a name that ends in .png", path)}
	}
	return nil
}

// writePNG writes RGB pixels, rows without gaps. The file appears whole or not at all.
func writePNG(path string, width, height int, rgb []byte) error {
	out := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			at := 3 * (y*width + x)
			out.SetNRGBA(x, y, color.NRGBA{R: rgb[at], G: rgb[at+1], B: rgb[at+2], A: 255})
		}
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: there is no folder %s", path, filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(file.Name()) // fails once the file has its name
	err = png.Encode(file, out)
	if err == nil {
		err = file.Chmod(0o644)
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
