package plot

import (
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// raster is a canvas that writes itself as PNG, at twice the size in pixels so that it is sharp on dense screens.
type raster struct {
	img  *image.RGBA
	font *opentype.Font
}

const density = 2

func newPNG(width, height int) (*raster, error) {
	f, err := opentype.Parse(goregular.TTF)
	if err != nil {
		return nil, err
	}
	img := image.NewRGBA(image.Rect(0, 0, width*density, height*density))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	return &raster{img: img, font: f}, nil
}

func (c Colour) rgba(opacity float64) color.Color {
	return color.NRGBA{c.R, c.G, c.B, uint8(math.Round(255 * opacity))}
}

// fill paints the polygon.
func (r *raster) fill(points []point, c color.Color) {
	box := image.Rectangle{}
	for _, p := range points {
		x, y := int(p.x*density), int(p.y*density)
		box = box.Union(image.Rect(x, y, x+1, y+1))
	}
	if box = box.Intersect(r.img.Bounds()); box.Empty() {
		return
	}
	v := vector.NewRasterizer(box.Dx(), box.Dy())
	for i, p := range points {
		x, y := float32(p.x*density)-float32(box.Min.X), float32(p.y*density)-float32(box.Min.Y)
		if i == 0 {
			v.MoveTo(x, y)
		} else {
			v.LineTo(x, y)
		}
	}
	v.ClosePath()
	v.Draw(r.img, box, image.NewUniform(c), image.Point{})
}

func (r *raster) line(points []point, c Colour, width float64) {
	for i := 1; i < len(points); i++ {
		a, b := points[i-1], points[i]
		length := math.Hypot(b.x-a.x, b.y-a.y)
		if length == 0 {
			continue
		}
		dx, dy := (b.y-a.y)/length*width/2, (a.x-b.x)/length*width/2
		r.fill([]point{{a.x + dx, a.y + dy}, {b.x + dx, b.y + dy}, {b.x - dx, b.y - dy}, {a.x - dx, a.y - dy}}, c.rgba(1))
		if i > 1 {
			r.dot(a, width/2, c)
		}
	}
}

func (r *raster) area(points []point, c Colour, opacity float64) { r.fill(points, c.rgba(opacity)) }

func (r *raster) dot(at point, radius float64, c Colour) {
	var circle []point
	for i := range 16 {
		a := 2 * math.Pi * float64(i) / 16
		circle = append(circle, point{at.x + radius*math.Cos(a), at.y + radius*math.Sin(a)})
	}
	r.fill(circle, c.rgba(1))
}

func (r *raster) text(at point, s string, size float64, where anchor, c Colour) {
	face, err := opentype.NewFace(r.font, &opentype.FaceOptions{Size: size * density, DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		return // only for sizes that cannot be
	}
	defer face.Close()
	d := font.Drawer{Dst: r.img, Src: image.NewUniform(c.rgba(1)), Face: face}
	x := at.x * density
	width := float64(d.MeasureString(s)) / 64
	switch where {
	case middle:
		x -= width / 2
	case right:
		x -= width
	}
	d.Dot = fixed.Point26_6{X: fixed.Int26_6(x * 64), Y: fixed.Int26_6(at.y * density * 64)}
	d.DrawString(s)
}

func (r *raster) write(w io.Writer) error { return png.Encode(w, r.img) }
