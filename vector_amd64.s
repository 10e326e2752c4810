#include "textflag.h"

// func dotWide(x, y *float32, n int) float32
TEXT ·dotWide(SB), NOSPLIT, $0-28
	MOVQ   x+0(FP), SI
	MOVQ   y+8(FP), DI
	MOVQ   n+16(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	MOVQ   CX, BX
	SHRQ   $5, BX
	JZ     rest

thirtytwo:
	VMOVUPS     (SI), Y4
	VMOVUPS     32(SI), Y5
	VMOVUPS     64(SI), Y6
	VMOVUPS     96(SI), Y7
	VFMADD231PS (DI), Y4, Y0
	VFMADD231PS 32(DI), Y5, Y1
	VFMADD231PS 64(DI), Y6, Y2
	VFMADD231PS 96(DI), Y7, Y3
	ADDQ        $128, SI
	ADDQ        $128, DI
	DECQ        BX
	JNZ         thirtytwo

rest:
	ANDQ $31, CX
	SHRQ $3, CX
	JZ   sum

eight:
	VMOVUPS     (SI), Y4
	VFMADD231PS (DI), Y4, Y0
	ADDQ        $32, SI
	ADDQ        $32, DI
	DECQ        CX
	JNZ         eight

sum:
	VADDPS       Y1, Y0, Y0
	VADDPS       Y3, Y2, Y2
	VADDPS       Y2, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDPS       X1, X0, X0
	VHADDPS      X0, X0, X0
	VHADDPS      X0, X0, X0
	VMOVSS       X0, ret+24(FP)
	VZEROUPPER
	RET

// func aboveWide(values *float32, n int, floor float32, at *int32, which *[256]uint64) int
//
// For each eight values: the eight bits of the comparison choose which of the places 0..7 stand first in a vector (which), all eight are
// written, and only as many count. No branch depends on the values.
TEXT ·aboveWide(SB), NOSPLIT, $0-48
	MOVQ         values+0(FP), SI
	MOVQ         n+8(FP), CX
	VBROADCASTSS floor+16(FP), Y0
	MOVQ         at+24(FP), DI
	MOVQ         which+32(FP), R9
	MOVQ         DI, R8
	MOVL         $8, AX
	VMOVD        AX, X3
	VPBROADCASTD X3, Y3 // 8 each
	VPXOR        Y4, Y4, Y4 // place of the first of the eight, each
	LEAQ         (SI)(CX*4), CX

look:
	VMOVUPS   (SI), Y1
	VCMPPS    $0x1e, Y0, Y1, Y2 // greater than, ordered, quiet
	VMOVMSKPS Y2, BX
	VPMOVZXBD (R9)(BX*8), Y5
	VPADDD    Y4, Y5, Y5
	VMOVDQU   Y5, (DI)
	POPCNTL   BX, BX
	LEAQ      (DI)(BX*4), DI
	VPADDD    Y3, Y4, Y4
	ADDQ      $32, SI
	CMPQ      SI, CX
	JLT       look
	SUBQ      R8, DI
	SHRQ      $2, DI
	MOVQ      DI, ret+40(FP)
	VZEROUPPER
	RET

// func cpuid(leaf, sub uint32) (a, b, c, d uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL sub+4(FP), CX
	CPUID
	MOVL AX, a+8(FP)
	MOVL BX, b+12(FP)
	MOVL CX, c+16(FP)
	MOVL DX, d+20(FP)
	RET

// func xgetbv() uint32
TEXT ·xgetbv(SB), NOSPLIT, $0-4
	MOVL $0, CX
	XGETBV
	MOVL AX, ret+0(FP)
	RET
